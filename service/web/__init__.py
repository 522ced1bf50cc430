"""The HTTP application of one worker: `build_app` puts routes, endpoint and admission together."""
