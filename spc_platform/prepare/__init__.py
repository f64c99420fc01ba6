"""From typed records to trustworthy values: quarantine, align, impute, mask. Pure functions over frames."""
