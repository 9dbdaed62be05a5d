"""The models of decoder.py: the same for ours and for the peer, which runs without this project."""

# layers, heads, width, T, B, vocabulary
SHAPES = {"4L/128": (4, 4, 128, 64, 12, 65), "6L/384": (6, 6, 384, 256, 16, 65)}
GENERATION = (6, 6, 384, 4096)  # layers, heads, width, vocabulary
CONTEXT, PROMPT = 512, 16
