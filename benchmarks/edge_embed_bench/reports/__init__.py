"""Reports made of records. `outputs` writes them by file ending; `table` is the one for the terminal."""
