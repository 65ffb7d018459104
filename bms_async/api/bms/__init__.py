"""BMS calls (API reference, chapter 4)."""
