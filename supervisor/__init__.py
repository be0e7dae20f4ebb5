"""The daemon: samples the machine, runs the handlers, keeps the bus."""
