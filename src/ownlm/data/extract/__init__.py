"""Content in, clean text out: web pages, PDF and Word files, plain text in any encoding."""
