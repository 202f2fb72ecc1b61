"""What the daemon serves over HTTP; reads through ports, writes nothing."""
