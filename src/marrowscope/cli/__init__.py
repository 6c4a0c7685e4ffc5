"""The command line: one module a command or group, put together in ``main``."""
