"""The target `adb`: the Android demo on a device behind a cable."""
