"""``prefect …`` with what `deployments` does for every process of ours.

``python -m deployments.stack.server_main server start`` is ``prefect server start``: importing this
package has calmed the garbage collector, before Prefect's server is imported.
"""

from prefect.cli import app

if __name__ == "__main__":
    app()
