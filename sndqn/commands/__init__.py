"""What the commands do, one module each, once the command line has been read."""
