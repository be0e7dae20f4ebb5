"""How a card heats and cools, learned while it works, pure: a bank of first-order responses to its speed.

Each response holds one time constant and one delay of the sensor and estimates the rest: towards `idle + gain · speed`
the temperature moves with that time constant. It is a Kalman filter of (temperature, idle, gain), which lets room, fan
and work drift. How well each foretells the next reading weighs what it says (a multiple-model estimator).
"""

from math import exp, sqrt
from typing import Final

from msgspec import Struct

#: Time constants and delays in seconds. Any card is near one of these; in a slow one, a delay makes little difference.
BANK: Final = (
    (6.0, 0.0), (6.0, 2.0), (6.0, 4.0), (6.0, 7.0),
    (12.0, 0.0), (12.0, 2.0), (12.0, 4.0), (12.0, 7.0),
    (24.0, 0.0), (24.0, 3.0), (24.0, 6.0),
    (48.0, 0.0), (48.0, 4.0),
    (96.0, 2.0),
    (192.0, 2.0),
)  # fmt: skip
#: Before anything is known: cards idle at 25 to 50 °C, and work heats them by some tens of degrees.
_IDLE_CELSIUS: Final = 38.0
_IDLE_VARIANCE: Final = 12.0**2
_GAIN_CELSIUS: Final = 40.0
_GAIN_VARIANCE: Final = 25.0**2
#: Work neither cools a card, nor heats it beyond all bounds.
_LEAST_GAIN: Final = 8.0
_MOST_GAIN: Final = 150.0
#: How fast each drifts by itself, °C² a second; what of the room, the fan and the work changes is seen in `idle` first.
_DRIFT_CELSIUS: Final = 0.01
_DRIFT_IDLE: Final = 0.1
_DRIFT_GAIN: Final = 0.01
#: A forecast counts so much of that drift: by then it has been made anew.
_DRIFT_COUNTS_S: Final = 20.0
#: Variances between which the noise of a reading is; a whole degree is no less vague than the first.
_LEAST_NOISE: Final = 0.15
_MOST_NOISE: Final = 9.0
#: With every reading, so much is forgotten of how well each response did, of the noise and of the excess.
_FORGET_SCORE: Final = 0.004
_FORGET_NOISE: Final = 0.03
_FORGET_EXCESS: Final = 0.05
_MOST_EXCESS: Final = 25.0
#: A response whose likelihood is e^-6 of the best one's says nothing.
_NO_SAY: Final = -6.0
#: A little more than the readings within the longest delay, at half a second each.
_SPEEDS: Final = 16
#: Readings beyond these are no temperatures of a card; taken as they are, they could overflow.
_COLDEST_CELSIUS: Final = -50.0
_HOTTEST_CELSIUS: Final = 200.0


class Response(Struct, kw_only=True):
    """One hypothesis: what is believed with this time constant and delay, its covariance, and how well it does."""

    tau_s: float
    delay_s: float
    celsius: float
    idle: float = _IDLE_CELSIUS
    gain: float = _GAIN_CELSIUS
    #: covariance of temperature (t), idle (i) and gain (g)
    tt: float = 1.0
    ti: float = 0.0
    tg: float = 0.0
    ii: float = _IDLE_VARIANCE
    ig: float = 0.0
    gg: float = _GAIN_VARIANCE
    #: logarithm of its likelihood relative to the best one's, fading
    score: float = 0.0

    def advance(self, speed: float, seconds: float) -> None:
        """Let time pass at a speed, without a reading."""
        moves = 1.0 - exp(-seconds / self.tau_s)
        stays, driven = 1.0 - moves, moves * speed
        ti, tg, ii, ig, gg = self.ti, self.tg, self.ii, self.ig, self.gg
        new_ti = stays * ti + moves * ii + driven * ig
        new_tg = stays * tg + moves * ig + driven * gg
        self.celsius += moves * (self.idle + self.gain * speed - self.celsius)
        self.tt = (
            stays * (stays * self.tt + moves * ti + driven * tg)
            + moves * new_ti
            + driven * new_tg
            + _DRIFT_CELSIUS * seconds
        )
        self.ti, self.tg = new_ti, new_tg
        self.ii = ii + _DRIFT_IDLE * seconds
        self.gg = gg + _DRIFT_GAIN * seconds

    def correct(self, celsius: float, noise: float) -> tuple[float, float]:
        """Take in a reading with this variance; returns the square of the error, and what was expected of it."""
        error = celsius - self.celsius
        tt, ti, tg = self.tt, self.ti, self.tg
        variance = tt + noise
        by_t, by_i, by_g = tt / variance, ti / variance, tg / variance
        self.celsius += by_t * error
        self.idle += by_i * error
        self.gain = min(max(self.gain + by_g * error, _LEAST_GAIN), _MOST_GAIN)
        self.tt = tt - by_t * tt
        self.ti = ti - by_t * ti
        self.tg = tg - by_t * tg
        self.ii -= by_i * ti
        self.ig -= by_i * tg
        self.gg -= by_g * tg
        return error * error, variance

    def doubt(self) -> None:
        """Something has changed: room and work are half as certain as before."""
        self.ti *= 1.5
        self.tg *= 1.5
        self.ii = self.ii * 2.25 + 9.0
        self.ig *= 2.25
        self.gg = self.gg * 2.25 + 9.0


class Outlook(Struct, frozen=True):
    """The temperature at one moment ahead, by the speed until then: a linear mean, a parabola of a variance."""

    base: float
    slope: float
    variance: tuple[float, float, float]

    def at(self, speed: float) -> tuple[float, float]:
        """Mean and standard deviation in °C."""
        constant, linear, square = self.variance
        return self.base + self.slope * speed, sqrt(max(constant + speed * (linear + speed * square), 0.0))


class Thermal(Struct, kw_only=True):
    """What was learned about one card."""

    responses: list[Response]
    last_celsius: float
    last_step: float = 0.0
    readings: int = 1
    #: variance of a reading around the temperature
    noise: float = 0.5
    #: the square of errors, relative to what was expected of them
    excess: float = 1.0
    #: speeds between the last readings, the newest last, and how far those are apart
    speeds: list[float] = []
    interval_s: float = 1.0

    def learn(self, celsius: float, speed: float, seconds: float) -> None:
        """Take in a reading, `seconds` after the last one; in between the card worked at `speed`."""
        celsius = min(max(celsius, _COLDEST_CELSIUS), _HOTTEST_CELSIUS)
        self._listen(celsius)
        self.readings += 1
        self.interval_s = seconds
        self.speeds.append(speed)
        del self.speeds[:-_SPEEDS]
        noise, errors, expected = self.reading_variance, [], []
        for response in self.responses:
            response.advance(self.felt(response), seconds)
            error, variance = response.correct(celsius, noise)
            errors.append(error)
            expected.append(variance)
        self._weigh(errors, expected)

    def felt(self, response: Response) -> float:
        """The speed that a reading of now shows, by the delay of a response."""
        return self.speeds[-1 - min(round(response.delay_s / self.interval_s), len(self.speeds) - 1)]

    def ahead(self, seconds: float) -> Outlook:
        """The temperature after so long at one speed from now on; a reading of it is `reading_variance` vaguer."""
        base = slope = square = cross = constant = total = 0.0
        drift_s = min(seconds, _DRIFT_COUNTS_S)
        for response in self.responses:
            if response.score < _NO_SAY:
                continue
            weight, tau_s = exp(response.score), response.tau_s
            delay_s = min(response.delay_s, seconds)
            late = exp((delay_s - seconds) / tau_s)
            mean = response.celsius
            if delay_s:
                pending = 1.0 - exp(-delay_s / tau_s)
                mean += pending * (response.idle + response.gain * self._pending(delay_s) - mean)
            mean = late * mean + (1.0 - late) * response.idle
            per_speed = (1.0 - late) * response.gain
            stays = exp(-seconds / tau_s)
            moves = 1.0 - stays
            total += weight
            base += weight * mean
            slope += weight * per_speed
            constant += weight * (
                mean * mean
                + stays * (stays * response.tt + 2.0 * moves * response.ti)
                + moves * moves * (response.ii + _DRIFT_IDLE * drift_s)
                + _DRIFT_CELSIUS * min(seconds, tau_s)
            )
            cross += weight * 2.0 * (mean * per_speed + moves * (stays * response.tg + moves * response.ig))
            square += weight * (per_speed * per_speed + moves * moves * (response.gg + _DRIFT_GAIN * drift_s))
        base, slope, excess = base / total, slope / total, max(self.excess, 1.0)
        return Outlook(
            base,
            slope,
            (
                excess * (constant / total - base * base),
                excess * (cross / total - 2.0 * base * slope),
                excess * (square / total - slope * slope),
            ),
        )

    def doubt(self) -> None:
        """A forecast was wrong: learn anew, quickly."""
        for response in self.responses:
            response.doubt()

    @property
    def reading_variance(self) -> float:
        """How vague one reading is."""
        return max(self.noise, _LEAST_NOISE)

    @property
    def best(self) -> Response:
        """The likeliest."""
        return max(self.responses, key=lambda response: response.score)

    def _pending(self, delay_s: float) -> float:
        """Mean of the speeds that the sensor has yet to show."""
        pending = self.speeds[-max(round(delay_s / self.interval_s), 1) :]
        return sum(pending) / len(pending) if pending else 0.0

    def _listen(self, celsius: float) -> None:
        """The noise is what bends the course from one reading to the next: no heating or cooling does so at once."""
        step = celsius - self.last_celsius
        if self.readings > 1:
            bend = step - self.last_step
            self.noise += _FORGET_NOISE * (min(bend * bend / 6.0, _MOST_NOISE) - self.noise)
        self.last_celsius, self.last_step = celsius, step

    def _weigh(self, errors: list[float], expected: list[float]) -> None:
        """Judge each response by its error; all by one variance, else the vaguest wins whenever nothing happens."""
        common = 2.0 * min(expected)
        best = float("-inf")
        for response, error in zip(self.responses, errors, strict=True):
            response.score = (1.0 - _FORGET_SCORE) * response.score - error / common
            best = max(best, response.score)
        total = squares = 0.0
        for response, error, variance in zip(self.responses, errors, expected, strict=True):
            response.score -= best
            if response.score >= _NO_SAY:
                weight = exp(response.score)
                total += weight
                squares += weight * error / variance
        self.excess += _FORGET_EXCESS * (min(squares / total, _MOST_EXCESS) - self.excess)


def unlearned(celsius: float) -> Thermal:
    """A card of which one reading is known."""
    celsius = min(max(celsius, _COLDEST_CELSIUS), _HOTTEST_CELSIUS)
    return Thermal(
        responses=[Response(tau_s=tau_s, delay_s=delay_s, celsius=celsius) for tau_s, delay_s in BANK],
        last_celsius=celsius,
    )
