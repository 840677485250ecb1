"""Plans behind an address: HTTP requests in, an engine's answers out, and a page to try them."""
