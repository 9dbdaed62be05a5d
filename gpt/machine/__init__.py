"""The machine: its hardware and devices, many processes, interruption by signals, and what fits its memory."""
