"""What requests and answers look like, as OpenAI's reference documents them."""
