"""What a registry is shown of who asks: challenges, tokens, and what each is good for."""
