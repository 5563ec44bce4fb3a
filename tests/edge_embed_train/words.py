"""Words that the tiny tokenizers know."""

WORDS = (  # noqa: SIM905 - a list says no more
    "red planet mars stone river old green hills seven small birds cat dog sun bread milk house tree"
).split()
