"""The coordinator: rounds, sums it cannot read apart, server steps. It holds no model framework."""
