"""The command line, as processes of their own against a real server; the tests play the supervisor."""
