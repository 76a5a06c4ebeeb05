"""The learning wing: hierarchical supervision of 3-D encoders. The only wing that imports torch."""
