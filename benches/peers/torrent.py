"""One file from one libtorrent session to another over loopback, each in a process of its own.

Prints one line: seconds, megabytes a second, and the CPU-seconds of both ends. BitTorrent v2: SHA-256, as elsewhere here.
"""

import multiprocessing
import os
import resource
import sys
import time

import libtorrent

QUIET = {
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "enable_outgoing_utp": False,
    "enable_incoming_utp": False,
    "alert_mask": libtorrent.alert.category_t.storage_notification,
    "allow_multiple_connections_per_ip": True,
}


def session(port):
    return libtorrent.session({**QUIET, "listen_interfaces": f"127.0.0.1:{port}"})


def cpu_seconds():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def described(path):
    files = libtorrent.file_storage()
    libtorrent.add_files(files, path)
    torrent = libtorrent.create_torrent(files, 1 << 20, libtorrent.create_torrent.v2_only)
    libtorrent.set_piece_hashes(torrent, os.path.dirname(path))
    return libtorrent.bencode(torrent.generate())


def give(torrent, folder, pipe):
    ours = session(0)
    parameters = libtorrent.add_torrent_params()
    parameters.ti = libtorrent.torrent_info(libtorrent.bdecode(torrent))
    parameters.save_path = folder
    parameters.flags |= libtorrent.torrent_flags.seed_mode
    ours.add_torrent(parameters)
    while not ours.listen_port():
        time.sleep(0.01)
    before = cpu_seconds()
    pipe.send(ours.listen_port())
    pipe.recv()
    pipe.send(cpu_seconds() - before)


def take(torrent, folder, port, pipe):
    ours = session(0)
    parameters = libtorrent.add_torrent_params()
    parameters.ti = libtorrent.torrent_info(libtorrent.bdecode(torrent))
    parameters.save_path = folder
    before, began = cpu_seconds(), time.monotonic()
    handle = ours.add_torrent(parameters)
    asked = -1.0
    while not handle.status().is_seeding:
        if time.monotonic() - asked > 1 and not handle.get_peer_info():
            handle.connect_peer(("127.0.0.1", port))
            asked = time.monotonic()
        time.sleep(0.005)
    handle.flush_cache()
    while not any(isinstance(it, libtorrent.cache_flushed_alert) for it in ours.pop_alerts()):
        ours.wait_for_alert(100)
    took = time.monotonic() - began
    pipe.send((took, cpu_seconds() - before))


def main():
    path, target = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
    torrent = described(path)
    giver, theirs = multiprocessing.Pipe()
    multiprocessing.Process(target=give, args=(torrent, os.path.dirname(path), theirs), daemon=True).start()
    port = giver.recv()
    taker, theirs = multiprocessing.Pipe()
    multiprocessing.Process(target=take, args=(torrent, target, port, theirs), daemon=True).start()
    took, reader = taker.recv()
    giver.send("over")
    author = giver.recv()
    megabytes = os.path.getsize(path) / 1e6
    print(
        f"libtorrent {libtorrent.__version__:<17} {took:8.3f} s, {megabytes / took:6.0f} MB/s, "
        f"CPU-seconds {author + reader:5.2f} (author {author:.2f}, reader {reader:.2f})"
    )


if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    main()
