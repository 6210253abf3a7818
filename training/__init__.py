"""Makes the embedded base and its experts; meets the server only through the file formats."""
