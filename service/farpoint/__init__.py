"""Farpoint, the service: everything that touches the world. The numerical core is `farpoint_models`."""
