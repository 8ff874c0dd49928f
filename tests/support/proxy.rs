//! A TCP proxy in front of a broker, which does to connections what bad networks do.
//!
//! It begins as a good network: what arrives is forwarded at once. Tests change its [`Weather`] at any time,
//! also for connections that exist, and may damage one byte or cut a connection at it ([`Proxy::strike`]).

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often threads look whether the weather has changed.
const LOOK: Duration = Duration::from_millis(20);

/// What the network does to all connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// It forwards everything at once.
    Fine,
    /// What comes after a pause waits for this long, in each direction.
    Late(Duration),
    /// Answers come at this rate, in bytes a second.
    Narrow(u64),
    /// Connections are accepted and nothing is forwarded. What waits comes when the weather changes.
    Silent,
    /// Connections end as soon as they are accepted, as at a load balancer without a backend.
    Closes,
    /// Nothing listens.
    Refuses,
}

/// A direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Of {
    Requests = 0,
    Answers = 1,
}

/// What happens at a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strike {
    /// The connection ends before it.
    Cut,
    /// Its bits of this mask are flipped.
    Flip(u8),
}

/// See the module's documentation. Dropping it ends all connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    backend: Option<SocketAddr>,
    weather: Weather,
    /// When it is fine again.
    until: Option<Instant>,
    ended: bool,
    /// Connections accepted.
    accepted: u64,
    /// Up to this one, connections stay open and nothing is forwarded over them.
    stranded: u64,
    /// Up to this one, connections are over.
    over: u64,
    /// Bytes of each direction, over all connections.
    forwarded: [u64; 2],
    strikes: Vec<(Of, u64, Strike)>,
    /// A strike at so many bytes from these bytes, when they pass.
    marked: Option<(Of, Vec<u8>, i64, Strike)>,
    /// What has passed in each direction of each connection, if it is wanted.
    recorded: Option<BTreeMap<(u64, Of), Vec<u8>>>,
    /// After how many bytes of answers each connection ends.
    lasts: Option<u64>,
}

impl Proxy {
    /// A proxy on a free port.
    pub fn start() -> Self {
        Self::start_at(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    /// The same at another address of this machine.
    pub fn start_at(ip: IpAddr) -> Self {
        let address = SocketAddr::from((ip, super::unique::free_port()));
        let state = Arc::new(Mutex::new(State {
            backend: None,
            weather: Weather::Fine,
            until: None,
            ended: false,
            accepted: 0,
            stranded: 0,
            over: 0,
            forwarded: [0; 2],
            strikes: vec![],
            marked: None,
            recorded: None,
            lasts: None,
        }));
        let listener = TcpListener::bind(address).expect("the port is free");
        let shared = Arc::clone(&state);
        std::thread::spawn(move || accept(listener, address, &shared));
        Self { address, state }
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Connects new connections with a broker.
    pub fn forward_to(&self, broker: &str) {
        self.state().backend = Some(broker.parse().expect("an address"));
    }

    pub fn weather(&self, weather: Weather) {
        let mut state = self.state();
        (state.weather, state.until) = (weather, None);
    }

    /// The same, for a time.
    pub fn weather_for(&self, time: Duration, weather: Weather) {
        let mut state = self.state();
        (state.weather, state.until) = (weather, Some(Instant::now() + time));
    }

    /// Leaves all connections open, and forwards nothing over them any more.
    pub fn strand(&self) {
        let mut state = self.state();
        state.stranded = state.accepted;
    }

    /// Strikes once, at a byte that is counted from now over all connections.
    pub fn strike(&self, of: Of, at: u64, what: Strike) {
        let mut state = self.state();
        let at = state.forwarded[of as usize] + at;
        state.strikes.push((of, at, what));
    }

    /// Strikes once, at a byte that is so far behind (or before) these bytes of an answer.
    pub fn strike_behind(&self, mark: &[u8], distance: i64, what: Strike) {
        self.strike_behind_of(Of::Answers, mark, distance, what);
    }

    /// The same in either direction.
    pub fn strike_behind_of(&self, of: Of, mark: &[u8], distance: i64, what: Strike) {
        self.state().marked = Some((of, mark.to_owned(), distance, what));
    }

    /// Keeps what passes from now on.
    pub fn record(&self) {
        self.state().recorded = Some(BTreeMap::new());
    }

    /// What has passed since, for each direction of each connection.
    pub fn recorded(&self) -> Vec<Vec<u8>> {
        let state = self.state();
        let recorded = state.recorded.iter().flat_map(BTreeMap::values);
        recorded.cloned().collect()
    }

    /// Ends each connection after so many bytes of its answers.
    pub fn lasts(&self, bytes: u64) {
        self.state().lasts = Some(bytes);
    }

    /// The bytes forwarded so far.
    pub fn forwarded(&self, of: Of) -> u64 {
        self.state().forwarded[of as usize]
    }

    /// Whether all strikes have happened.
    pub fn has_struck(&self) -> bool {
        let state = self.state();
        state.strikes.is_empty() && state.marked.is_none()
    }

    /// Ends all connections.
    pub fn end_connections(&self) {
        let mut state = self.state();
        state.over = state.accepted;
    }

    /// Lets the network be good again. Stranded connections stay so.
    pub fn calm(&self) {
        let mut state = self.state();
        (state.weather, state.until) = (Weather::Fine, None);
        state.strikes.clear();
        state.marked = None;
        state.lasts = None;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    fn weather(&self) -> Weather {
        match self.until {
            Some(until) if Instant::now() >= until => Weather::Fine,
            _ => self.weather,
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state().ended = true;
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Accepts connections until the proxy is dropped.
fn accept(listener: TcpListener, address: SocketAddr, shared: &Arc<Mutex<State>>) {
    let mut listener = Some(listener);
    loop {
        let (weather, ended) = {
            let state = lock(shared);
            (state.weather(), state.ended)
        };
        if ended {
            return;
        }
        if weather == Weather::Refuses {
            listener = None;
        } else if listener.is_none() {
            listener = TcpListener::bind(address).ok();
        }
        let accepted = listener.as_ref().and_then(|listener| {
            listener.set_nonblocking(true).ok()?;
            listener.accept().ok()
        });
        match accepted {
            Some((client, _)) if weather != Weather::Closes => connect(client, shared),
            Some(_) => {}
            None => std::thread::sleep(LOOK),
        }
    }
}

fn connect(client: TcpStream, shared: &Arc<Mutex<State>>) {
    let (backend, number) = {
        let mut state = lock(shared);
        state.accepted += 1;
        (state.backend, state.accepted)
    };
    let Some(Ok(broker)) = backend.map(TcpStream::connect) else {
        return;
    };
    for stream in [&client, &broker] {
        stream.set_nonblocking(false).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(LOOK)).expect("a socket");
    }
    let pair = Arc::new([client, broker]);
    for of in [Of::Requests, Of::Answers] {
        let (pair, shared) = (Arc::clone(&pair), Arc::clone(shared));
        std::thread::spawn(move || {
            let (from, to) = match of {
                Of::Requests => (&pair[0], &pair[1]),
                Of::Answers => (&pair[1], &pair[0]),
            };
            let pump = Pump {
                of,
                number,
                shared: &shared,
            };
            // A stranded connection ends with the proxy.
            let _ = pump.run(from, to);
            for stream in pair.iter() {
                let _ = stream.shutdown(Shutdown::Both);
            }
        });
    }
}

/// One direction of a connection.
struct Pump<'a> {
    of: Of,
    /// Of the connection, from 1.
    number: u64,
    shared: &'a Mutex<State>,
}

impl Pump<'_> {
    fn run(&self, mut from: &TcpStream, mut to: &TcpStream) -> std::io::Result<()> {
        let mut buffer = vec![0; 64 << 10];
        let mut passed = 0;
        let mut last = Instant::now();
        loop {
            let Some(weather) = self.wait() else {
                return Ok(());
            };
            let most = match weather {
                // Twenty times a second.
                Weather::Narrow(rate) if self.of == Of::Answers => usize::try_from(rate / 20)
                    .unwrap_or(1)
                    .clamp(1, buffer.len()),
                _ => buffer.len(),
            };
            let n = match from.read(&mut buffer[..most]) {
                Ok(0) => return Ok(()),
                Ok(n) => n,
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    continue;
                }
                Err(e) => return Err(e),
            };
            // It may have changed meanwhile.
            let Some(weather) = self.wait() else {
                return Ok(());
            };
            match weather {
                Weather::Late(late) if last.elapsed() > late / 2 => std::thread::sleep(late),
                Weather::Narrow(rate) if self.of == Of::Answers => {
                    std::thread::sleep(Duration::from_secs_f64(n as f64 / rate as f64));
                }
                _ => {}
            }
            last = Instant::now();
            let whole = self.strike(&mut buffer[..n], passed);
            to.write_all(&buffer[..whole])?;
            passed += whole as u64;
            if whole < n {
                return Ok(());
            }
        }
    }

    /// The weather, as soon as it lets something through; `None` when the connection is to end.
    fn wait(&self) -> Option<Weather> {
        loop {
            {
                let state = lock(self.shared);
                let weather = state.weather();
                let held = self.number <= state.stranded || weather == Weather::Silent;
                match weather {
                    _ if state.ended || self.number <= state.over => return None,
                    Weather::Closes | Weather::Refuses => return None,
                    weather if !held => return Some(weather),
                    _ => {}
                }
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Damages `bytes`, before which the connection has forwarded `passed`. Returns how many of them still
    /// pass before the connection ends.
    fn strike(&self, bytes: &mut [u8], passed: u64) -> usize {
        let mut state = lock(self.shared);
        let begin = state.forwarded[self.of as usize];
        if state.marked.as_ref().is_some_and(|(of, ..)| *of == self.of)
            && let Some((of, mark, distance, what)) = state.marked.take()
        {
            let found = bytes.windows(mark.len()).position(|window| window == mark);
            let index = found
                .and_then(|found| i64::try_from(found).ok())
                .map(|found| found + distance);
            match index.and_then(|index| u64::try_from(index).ok()) {
                Some(index) => state.strikes.push((of, begin + index, what)),
                None => state.marked = Some((of, mark, distance, what)),
            }
        }
        let mut whole = bytes.len();
        state.strikes.retain(|(of, at, what)| {
            let index = at
                .checked_sub(begin)
                .and_then(|at| usize::try_from(at).ok());
            match index {
                Some(index) if *of == self.of && index < bytes.len() => {
                    match what {
                        Strike::Flip(mask) => bytes[index] ^= mask,
                        Strike::Cut => whole = whole.min(index),
                    }
                    false
                }
                _ => true,
            }
        });
        if self.of == Of::Answers
            && let Some(lasts) = state.lasts
        {
            whole = whole.min(usize::try_from(lasts.saturating_sub(passed)).unwrap_or(whole));
        }
        state.forwarded[self.of as usize] += whole as u64;
        if let Some(recorded) = &mut state.recorded {
            let of = recorded.entry((self.number, self.of)).or_default();
            of.extend_from_slice(&bytes[..whole]);
        }
        whole
    }
}
