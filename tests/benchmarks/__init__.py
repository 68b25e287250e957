"""Speed, shown as ratios to a floor that is measured in the same run. ``make bench`` runs and prints all of them."""
