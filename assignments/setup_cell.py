# In Colab this installs the book's package and leaves Colab's own as they are. Elsewhere it does nothing.
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("gentext") is None:
    source = "gentext @ git+https://github.com/gentext-book/gentext"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", source], check=True)

from gentext.classroom import Notebook

grader = Notebook("{name}", variant=<<variant>>)
