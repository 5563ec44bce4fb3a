"""The target `browser`: LiteRT.js in headless Chromium."""
