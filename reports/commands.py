"""The commands of `regionpairs` that show a dataset. What they need is imported when they run."""

from __future__ import annotations


def view(dataset: str, out: str = "pairs.png", n: int = 20) -> int:
    """Draws samples with their pairs: boxes, concept names, probabilities.

    Args:
        dataset: folder or URL of the dataset
        out: picture to write
        n: samples to draw, one of each shard in turn
    """
    import storage
    from pipeline.dataset import Dataset
    from reports.contact_sheet import draw

    url = storage.absolute(out)
    storage.write_bytes(url, draw(Dataset.open(dataset), n))
    print(url)
    return 0


def report(dataset: str, out: str = "report.html", shards: int = 8, samples: int = 1200) -> int:
    """Writes one HTML page about a dataset: counts, issues, histograms, concepts, samples. It opens without a network.

    Args:
        dataset: folder or URL of the dataset
        out: page to write
        shards: shards looked into for what is said of single samples
        samples: samples looked at, over those shards
    """
    import storage
    from pipeline.dataset import Dataset
    from reports.html_report import html_report
    from reports.settings import ReportSettings

    url = storage.absolute(out)
    page = html_report(Dataset.open(dataset), ReportSettings(shards=shards, samples=samples))
    storage.write_bytes(url, page.encode())
    print(url)
    return 0
