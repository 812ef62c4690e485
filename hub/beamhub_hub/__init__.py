"""Hub: login, the wiring of JupyterHub, and the pages around them."""
