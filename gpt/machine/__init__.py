"""The machine: its hardware and devices, many processes, and interruption by signals."""
