"""The clock of a file: where it jumps, how its packets are put on one that runs on, and which part of it is written.

Recordings that were joined or cut on the tape, as DVRs do, go on at another time. MPEG-TS, MPEG-PS and Ogg allow that,
and players go on without a pause. In MP4 and Matroska a long gap is what somebody wanted.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, NamedTuple

import av
from av.error import FFmpegError
from av.format import Flags
from av.stream import Stream

from nst_ops.media.video.container import STILL, demux, has_more_streams, open_whole, own_streams, video_stream
from nst_ops.media.video.source import MediaSource

_HAS_JUMPS: Any = Flags.ts_discont.value  # FFmpeg's flag of formats whose clocks may jump
_FORWARD_S = 10  # a longer gap is a jump, where a format allows jumps: as FFmpeg has it
_BACK_S = 1  # a longer step back is a jump in any format; where a format allows jumps, every step back is one
# Seconds by which the sound of two parts may overlap: the last of the first part is left out. If it is more, all wait.
_SLACK_S = Fraction(1, 10)
_WINDOW = 500  # packets among which the order of the file is restored: demuxers hold back the last of a stream


@dataclass(frozen=True)
class Clock:
    """The clock of a file, by which all of its streams go on where it jumps."""

    jumps_s: tuple[float, ...] = ()  # from the first packet of the video on, on the clock that runs on
    length_s: float = 0.0  # of the video, on that clock; 0 if it was not read
    end_s: float = 0.0  # of all streams, on that clock
    # For each stream: number of a packet in it, and by how many ticks the packets from there on are moved.
    _moves: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    _dropped: dict[int, set[int]] = field(default_factory=dict)  # numbers of the packets that are left out
    _has_more_streams: bool = False  # that begin so late that they are left out

    @property
    def notes(self) -> list[str]:
        """What is said of the file."""
        notes = ["a stream that begins late in it is left out"] if self._has_more_streams else []
        if self.jumps_s:
            places = f"{len(self.jumps_s)} places, first " if len(self.jumps_s) > 1 else ""
            notes.append(f"its clock jumps at {places}{self.jumps_s[0]:.2f} s: what follows goes on from there")
        return notes

    def first_ticks(self, stream: int) -> int:
        """Return by how many ticks the first packets of a stream are moved."""
        return self._moves[stream][0][1] if stream in self._moves else 0

    def steady(self, packets: Iterable[Any]) -> Iterator[Any]:
        """Yield packets of a whole file, from its start, moved to a clock that runs on."""
        numbers: Counter[int] = Counter()
        ticks: dict[int, int] = {}
        moves = {stream: iter([*of_stream, (-1, 0)]) for stream, of_stream in self._moves.items()}
        upcoming = {stream: next(of_stream) for stream, of_stream in moves.items()}
        for packet in packets:
            stream = packet.stream.index
            if packet.size and stream in upcoming:
                while upcoming[stream][0] == numbers[stream]:
                    ticks[stream], upcoming[stream] = upcoming[stream][1], next(moves[stream])
                numbers[stream] += 1
                if numbers[stream] - 1 in self._dropped.get(stream, ()):
                    continue
                move(packet, ticks.get(stream, 0))
            yield packet


@dataclass(frozen=True)
class Span:
    """A part of a file, in seconds of its clock; what is written of it begins at 0."""

    begin_s: float  # a whole number of ticks of the video
    end_s: float | None = None  # None: to its end
    is_cut: bool = True  # whether packets before ``begin_s`` are left out, and not only shown earlier
    clock: Clock = Clock()


def move(packet: Any, ticks: int) -> None:
    """Move a packet in time."""
    packet.pts = None if packet.pts is None else packet.pts + ticks
    packet.dts = None if packet.dts is None else packet.dts + ticks


def read_clock(source: MediaSource) -> Clock:
    """Read every packet of a video's file, and find where its clock jumps; UnreadableVideoError if it does not open.

    There is nothing to find in MP4 and MOV, whose tables count the time from packet to packet.
    """
    with open_whole(source) as container:
        video = video_stream(container)
        own = own_streams(container, source, video)
        scan = _Scan(own, video.index, bool(container.format.flags & _HAS_JUMPS))
        for stamp in _in_file_order(demux(container, own)):
            scan.add(stamp)
        return replace(scan.clock(), _has_more_streams=has_more_streams(container))


class _Stamp(NamedTuple):
    """When a packet is shown, in ticks of its stream; in the order of the file."""

    place: int
    order: int  # of packets at one place
    stream: int
    number: int  # in its stream
    dts: int
    pts: int
    duration: int | None


@dataclass
class _Stretch:
    """A stretch of a file without a jump; times are ticks of their stream, as the file has them."""

    leap_s: float  # to its first packet, from the last before it
    first_s: float  # earliest and latest time in it so far, of any stream
    latest_s: float
    numbers: dict[int, int] = field(default_factory=dict)  # of the first packet of each stream
    starts: dict[int, int] = field(default_factory=dict)  # earliest presentation time
    ends: dict[int, int] = field(default_factory=dict)  # latest, with the duration
    steps: dict[int, int] = field(default_factory=dict)  # from the last packet to its end
    running: set[int] = field(default_factory=set)  # streams that do not jump where it begins


class _Scan:
    """A look at all packets of a file, in its order."""

    def __init__(self, streams: list[Stream], video: int, is_discontinuous: bool) -> None:
        self._video, self._is_discontinuous = video, is_discontinuous
        self._time_bases = {stream.index: stream.time_base or Fraction(1, av.time_base) for stream in streams}
        self._sound = {stream.index for stream in streams if stream.type == "audio"}
        self._ticking = {stream.index for stream in streams if stream.type in ("video", "audio")}
        self._stretches = [_Stretch(0.0, math.inf, -math.inf)]
        self._last: dict[int, tuple[_Stretch, int, int]] = {}  # of each stream: stretch, DTS, distance to the next

    def add(self, stamp: _Stamp) -> None:
        """Take the next packet: it belongs to the newest stretch, to that of its stream, or begins one."""
        stream, stretch = stamp.stream, self._stretches[-1]
        if stream in self._ticking:
            time_s = float(stamp.dts * self._time_bases[stream])
            stretch = self._stretch_of(stream, time_s)
            stretch.first_s, stretch.latest_s = min(time_s, stretch.first_s), max(time_s, stretch.latest_s)
            own, last_dts, step = self._last.get(stream, (stretch, stamp.dts, 0))
            step = stamp.duration or (stamp.dts - last_dts if own is stretch and stamp.dts > last_dts else step)
            self._last[stream] = stretch, stamp.dts, step
            stretch.steps[stream] = step
            stretch.starts[stream] = min(stamp.pts, stretch.starts.get(stream, stamp.pts))
            stretch.ends[stream] = max(stamp.pts + step, stretch.ends.get(stream, stamp.pts + step))
        stretch.numbers.setdefault(stream, stamp.number)

    def _stretch_of(self, stream: int, time_s: float) -> _Stretch:
        newest = self._stretches[-1]
        is_near = newest.first_s - _FORWARD_S <= time_s <= newest.latest_s + _FORWARD_S
        is_near |= not self._is_discontinuous or not newest.starts
        if stream in self._last:
            own, last_dts, _ = self._last[stream]
            gap_s = time_s - float(last_dts * self._time_bases[stream])
            runs_on = 0 <= gap_s <= _FORWARD_S if self._is_discontinuous else gap_s >= -_BACK_S
            if own is newest and runs_on:
                return newest
            # It comes behind a jump of another stream, or is still before it.
            if own is not newest and (is_near or runs_on):
                if is_near and runs_on:
                    newest.running.add(stream)
                return newest if is_near else own
        elif is_near:
            return newest
        self._stretches.append(_Stretch(time_s - newest.latest_s, time_s, time_s))
        return self._stretches[-1]

    def clock(self) -> Clock:
        """Return by how much each stretch is moved: the next follows where the one before has ended."""
        bases, video, shift = self._time_bases, self._video, Fraction(0)
        ends: dict[int, Fraction] = {}  # of each stream so far, on the clock that runs on
        steps: dict[int, Fraction] = {}  # of its last packet
        shifts: dict[int, Fraction] = {}  # of each stream: that of all, or more
        begin: Fraction | None = None  # of the video
        jumps: list[Fraction] = []
        moves: dict[int, list[tuple[int, int]]] = defaultdict(list)
        dropped: dict[int, set[int]] = defaultdict(set)
        for stretch in self._stretches:
            # Shifts with which each stream would go on exactly where it has ended.
            exact = {key: ends[key] - start * bases[key] for key, start in stretch.starts.items() if key in ends}
            for key in stretch.running & exact.keys():  # the duration of the last packet may be off
                exact[key] = min(exact[key], shifts[key])
            before, most = shift, max(exact.values(), default=shift)
            if abs(most - shift) > _SLACK_S:
                shift = max(exact.get(video, most), most - _SLACK_S)
            elif not exact and ends:  # all its streams begin here
                shift -= Fraction(stretch.leap_s)
            shift = max(shift, exact.get(video, shift))  # no frame is left out: the sound goes with them
            has_dropped = False
            for key, number in stretch.numbers.items():
                overlap = max(Fraction(0), exact.get(key, shift) - shift)
                if key in self._sound and (count := round(overlap / steps[key]) if steps.get(key) else 0):
                    dropped[key] |= set(range(number - count, number))
                    overlap, has_dropped = max(Fraction(0), overlap - count * steps[key]), True
                shifts[key] = shift + overlap
                moves[key].append((number, round(shifts[key] / bases[key])))
            starts = {key: start * bases[key] + shifts[key] for key, start in stretch.starts.items()}
            ends |= {key: end * bases[key] + shifts[key] for key, end in stretch.ends.items()}
            steps |= {key: step * bases[key] for key, step in stretch.steps.items()}
            if shift != before or has_dropped or (video in starts and shifts[video] != before):
                jumps.append(starts.get(video, min(starts.values())))
            begin = starts.get(video) if begin is None else begin
        is_steady = not any(ticks for of_stream in moves.values() for _, ticks in of_stream)
        if begin is None:
            return Clock()
        length_s, end_s = float(ends[video] - begin), float(max(ends.values()))
        if is_steady and not dropped:
            return Clock(length_s=length_s, end_s=end_s)
        jumps_s = tuple(float(jump - begin) for jump in jumps)
        return Clock(jumps_s, length_s, end_s, dict(moves), dict(dropped))


def _in_file_order(packets: Iterator[Any]) -> Iterator[_Stamp]:
    """Yield the stamps of packets by their place in the file, as far as it can be read."""
    held: list[_Stamp] = []
    places: dict[int, int] = {}  # of the last packet of each stream: several may begin at one place
    numbers: Counter[int] = Counter()
    try:
        for packet in packets:
            if not packet.size:
                continue
            stream = packet.stream.index
            places[stream] = max(places.get(stream, 0), packet.pos or 0)
            if packet.dts is not None and not packet.stream.disposition & STILL:
                pts = packet.dts if packet.pts is None else packet.pts
                stamp = _Stamp(
                    places[stream], numbers.total(), stream, numbers[stream], packet.dts, pts, packet.duration
                )
                heapq.heappush(held, stamp)
            numbers[stream] += 1
            if len(held) > _WINDOW:
                yield heapq.heappop(held)
    except FFmpegError:  # the reader says what is wrong with the file
        pass
    while held:
        yield heapq.heappop(held)
