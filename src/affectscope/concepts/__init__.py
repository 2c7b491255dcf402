"""What we look for: emotions, ratings, stories, neutral texts, situations. Data files and small loaders; no torch."""
