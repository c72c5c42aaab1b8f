"""Update rules: how a gradient changes a parameter, each in a file of its own."""
