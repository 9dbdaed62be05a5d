"""Models and tokenizers as Hugging Face transformers loads them."""
