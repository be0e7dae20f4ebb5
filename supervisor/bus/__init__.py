"""Redis: keys, publish, consume, commit, pub/sub, the embedded server and the disk spool."""
