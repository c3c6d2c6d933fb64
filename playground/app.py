"""What Streamlit runs, anew after each click; `python play.py` starts it."""

from playground.page import show

show()
