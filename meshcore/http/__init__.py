"""The message model: headers, bodies, requests and responses, and the rules between them."""
