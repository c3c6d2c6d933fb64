"""What a language model knows of a world, and the small adapter that teaches it how it is asked."""
