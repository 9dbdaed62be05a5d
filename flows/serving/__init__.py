"""`gpt serve`: the completions API of OpenAI, and a page to play on."""
