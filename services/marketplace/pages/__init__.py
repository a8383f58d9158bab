"""The pages: one module a route, each of which only translates between HTTP and the shop."""
