"""The search for a recipe, `--recipe auto`.

Others may use `convert.convert_auto`, and `Budget` and `Search` from `budget`.
"""
