"""From files, cameras and streams to media records."""
