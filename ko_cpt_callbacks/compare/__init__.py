"""What a run is compared with: baselines, their figures and stages, and what a comparison of two runs says."""
