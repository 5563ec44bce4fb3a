"""The server: OpenAI's and text-embeddings-inference's endpoints over HTTP, and a search page.

Others may use `create_app` from `edge_embed.serve.app` and `Options` from `edge_embed.serve.options`. The
modules here need the extra `serve`, except `options`, `errors` and `scheduler`.
"""
