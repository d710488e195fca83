"""The cloud's side of a device: what it costs, what it is sent, files for many of them."""
