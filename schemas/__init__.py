"""The wire: what travels between Flyball's programs, as msgspec Structs, one file a topic, without any I/O."""
