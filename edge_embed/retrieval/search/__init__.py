"""From a query to hits: vectors in memory, the scan, words, fusion, snippets."""
