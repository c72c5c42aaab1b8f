"""Models with a head of their own at work: what class a text is of, where an answer stands, which word is missing."""
