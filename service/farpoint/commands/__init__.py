"""The commands, a module each; the function has the name of the command."""
