"""What bench.py is made of: building the drivers, running them, comparing, printing."""
