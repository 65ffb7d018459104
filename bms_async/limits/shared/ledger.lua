-- The rule book of a limit that many processes share, as ledger.py and adaptive_limit.py have it, for Redis and Valkey:
-- the same functions with the same names in the same order, and a test that holds the answers and the state equal.
-- Whoever changes one changes the other; the reasons stand there.
--
-- KEYS[1]  the hash of the account: the field "account", and "limit:NAME" for each limit, each a MessagePack array
-- ARGV[1]  the life of the store
-- ARGV[2]  the questions, MessagePack: {{name of the limit, question}, ...}; empty to open the account
-- ARGV[3]  the time in seconds; empty outside of tests, where it is the server's
--
-- All is written at the end and by one command, so a script that fails has changed nothing.
--
-- cmsgpack writes a double that is a whole number as an integer, which Python reads as a float where it wants one, and
-- an empty table as an empty array. A Struct is an array here, and these are the places of its fields. Lists that may be
-- long are gone through by number, which is quicker than ipairs.

local VERSION, CLOCK_DRIFT = 1, 0.05
local KEPT, PAUSE_INTERACTIVE, PAUSE_BULK = 0.3, 0.25, 1.0
local TURN, SPREAD, RENEWALS, GRAINS = 0.25, 0.03, 3, 100
local FORGOTTEN_AFTER, GROWTH, MIN_BLOCK, MAX_QUOTA_WINDOW, SHRINK_FACTOR = 10, 50, 1.0, 86400.0, 0.8

local A_VERSION, A_LIFE, A_SINCE, A_CLOSED_UNTIL, A_LIMITS = 1, 2, 3, 4, 5
local L_SINCE, L_SEEN, L_ADAPTIVE, L_ENDED, L_COUNTS, L_HOLDERS = 1, 2, 3, 4, 5, 6
local CAPACITY, UNREDUCED, CEILING, WINDOW, BASE_WINDOW, NOMINAL = 1, 2, 3, 4, 5, 6
local BLOCKED_UNTIL, FORGET_AT, GROW_AT, NAMED = 7, 8, 9, 10
local ID, ENDS, LIMIT, HELD, INTERACTIVE, BULK, INTERACTIVE_SINCE, BULK_SINCE = 1, 2, 3, 4, 5, 6, 7, 8
local SPARE, DUE, SEQ, GRANTED = 9, 10, 11, 12
local Q_HOLDER, Q_SEQ, Q_TERMS, Q_LIMIT, Q_RESERVE, Q_INTERACTIVE, Q_BULK, Q_AHEAD = 1, 2, 3, 4, 5, 6, 7, 8
local Q_UNUSED, Q_SPARE, Q_ADOPTED, Q_ENDED, Q_REFUSALS, Q_JUMPED, Q_LEAVING = 9, 10, 11, 12, 13, 14, 15
local T_WINDOW, T_LEASE, T_TIMEOUT = 1, 2, 3
local R_RETRY_AFTER, R_QUOTA = 1, 2

local INFINITY = math.huge
local floor, ceil, min, max, byte = math.floor, math.ceil, math.min, math.max, string.byte

-- Lua compares strings by the server's locale, Python by code points, whose order is that of their bytes.
local function before(one, other)
    for place = 1, min(#one, #other) do
        local mine, theirs = byte(one, place), byte(other, place)
        if mine ~= theirs then return mine < theirs end
    end
    return #one < #other
end

local function earlier(one_since, one_id, other_since, other_id)
    if one_since ~= other_since then return one_since < other_since end
    return before(one_id, other_id)
end

local function contains(names, name)
    for place = 1, #names do
        if names[place] == name then return true end
    end
    return false
end

-- adaptive_limit.py

local function of(limit, window)
    local with_drift = window + CLOCK_DRIFT
    return {limit, limit, limit, with_drift, with_drift, window, -INFINITY, -INFINITY, -INFINITY, {}}
end

local function change_limit(adaptive, limit)
    local is_named = #adaptive[NAMED] > 0
    local is_unreduced = adaptive[CAPACITY] == adaptive[UNREDUCED] and not is_named
    adaptive[UNREDUCED] = limit
    adaptive[CEILING] = is_named and min(adaptive[CEILING], limit) or limit
    adaptive[CAPACITY] = is_unreduced and limit or min(adaptive[CAPACITY], adaptive[CEILING])
end

local function adopt_quota(adaptive, calls, seconds)
    if not (0 < seconds and seconds <= MAX_QUOTA_WINDOW) or calls < 0 then return end
    local whole = adaptive[NOMINAL]
    local share = seconds <= whole and calls * floor(whole / seconds) or floor(calls / ceil(seconds / whole))
    local window = adaptive[BASE_WINDOW]
    if share < 1 then
        share = 1
        window = max(adaptive[BASE_WINDOW], seconds / max(1, calls) + adaptive[BASE_WINDOW] - whole)
    end
    if share >= adaptive[CEILING] and window <= adaptive[WINDOW] then return end
    adaptive[CEILING], adaptive[WINDOW] = min(adaptive[CEILING], share), max(adaptive[WINDOW], window)
    adaptive[CAPACITY] = min(adaptive[CAPACITY], adaptive[CEILING])
    adaptive[NAMED] = {calls, seconds}
end

local function on_rate_limited(adaptive, now, retry_after, quota)
    if #quota > 0 then adopt_quota(adaptive, floor(quota[1]), quota[2]) end
    if now >= adaptive[BLOCKED_UNTIL] then
        adaptive[CAPACITY] = max(1, floor(adaptive[CAPACITY] * SHRINK_FACTOR))
    end
    local block = #retry_after > 0 and max(retry_after[1], MIN_BLOCK) or adaptive[BASE_WINDOW]
    adaptive[BLOCKED_UNTIL] = max(adaptive[BLOCKED_UNTIL], now + block)
    adaptive[GROW_AT] = adaptive[BLOCKED_UNTIL] + adaptive[BASE_WINDOW]
    adaptive[FORGET_AT] = adaptive[BLOCKED_UNTIL] + FORGOTTEN_AFTER * adaptive[BASE_WINDOW]
end

local function expire_adaptive(adaptive, now)
    if #adaptive[NAMED] > 0 and now >= adaptive[FORGET_AT] then
        adaptive[NAMED], adaptive[CEILING], adaptive[WINDOW] = {}, adaptive[UNREDUCED], adaptive[BASE_WINDOW]
        adaptive[GROW_AT] = adaptive[FORGET_AT] + adaptive[BASE_WINDOW]
    end
    while adaptive[CAPACITY] < adaptive[CEILING] and now >= adaptive[GROW_AT] do
        local grown = adaptive[CAPACITY] + max(1, floor(adaptive[UNREDUCED] / GROWTH))
        adaptive[CAPACITY] = min(adaptive[CEILING], grown)
        adaptive[GROW_AT] = adaptive[GROW_AT] + adaptive[BASE_WINDOW]
    end
end

-- ledger.py

local function closed(terms)
    return terms[T_LEASE] + terms[T_TIMEOUT] + CLOCK_DRIFT + terms[T_WINDOW] + CLOCK_DRIFT
end

local function open_account(account, now, life)
    if not account or account[A_LIFE] ~= life then return {VERSION, life, now, now, {}} end
    account[A_CLOSED_UNTIL], account[A_LIMITS] = now, {}
    return account
end

local function close(account, terms, now)
    account[A_CLOSED_UNTIL] = now + closed(terms)
end

local function live_on(account, terms, now, life)
    if not account or account[A_LIFE] ~= life then return {VERSION, life, now, now + closed(terms), {}} end
    if account[A_CLOSED_UNTIL] > now + closed(terms) then close(account, terms, now) end
    return account
end

local function set_back(ledger, seconds)
    local adaptive = ledger[L_ADAPTIVE]
    adaptive[BLOCKED_UNTIL] = adaptive[BLOCKED_UNTIL] + seconds
    adaptive[FORGET_AT] = adaptive[FORGET_AT] + seconds
    adaptive[GROW_AT] = adaptive[GROW_AT] + seconds
    for place, ended in ipairs(ledger[L_ENDED]) do ledger[L_ENDED][place] = ended + seconds end
    for _, holder in ipairs(ledger[L_HOLDERS]) do
        holder[ENDS] = holder[ENDS] + seconds
        holder[DUE] = holder[DUE] + seconds
        holder[INTERACTIVE_SINCE] = holder[INTERACTIVE_SINCE] + seconds
        holder[BULK_SINCE] = holder[BULK_SINCE] + seconds
    end
end

local function cool(ledger, ended, count)
    if count <= 0 then return end
    ended = ceil(ended * GRAINS) / GRAINS
    local times, counts = ledger[L_ENDED], ledger[L_COUNTS]
    local place = #times
    while place > 0 and times[place] > ended do place = place - 1 end
    if place > 0 and times[place] == ended then
        counts[place] = counts[place] + count
    else
        table.insert(times, place + 1, ended)
        table.insert(counts, place + 1, count)
    end
end

local function end_leases(ledger, terms, now)
    local holders, kept = ledger[L_HOLDERS], nil
    for place = 1, #holders do
        if holders[place][ENDS] <= now then kept = {} end
    end
    if not kept then return end
    for place = 1, #holders do
        local holder = holders[place]
        if holder[ENDS] <= now then
            cool(ledger, holder[ENDS] + terms[T_TIMEOUT] + CLOCK_DRIFT, holder[HELD])
        else
            kept[#kept + 1] = holder
        end
    end
    ledger[L_HOLDERS] = kept
end

local function expire(ledger, now)
    expire_adaptive(ledger[L_ADAPTIVE], now)
    local times, counts, since = ledger[L_ENDED], ledger[L_COUNTS], now - ledger[L_ADAPTIVE][WINDOW]
    local over = 0
    while over < #times and times[over + 1] <= since do over = over + 1 end
    if over == 0 then return end
    local times_left, counts_left = {}, {}
    for place = over + 1, #times do
        times_left[place - over], counts_left[place - over] = times[place], counts[place]
    end
    ledger[L_ENDED], ledger[L_COUNTS] = times_left, counts_left
end

local function find(ledger, name)
    local holders = ledger[L_HOLDERS]
    for place = 1, #holders do
        if holders[place][ID] == name then return holders[place] end
    end
    return nil
end

local function count_used(ledger)
    local holders, counts, used = ledger[L_HOLDERS], ledger[L_COUNTS], 0
    for place = 1, #holders do used = used + holders[place][HELD] end
    for place = 1, #counts do used = used + counts[place] end
    return used
end

local function note(ledger, holder, question, now)
    holder[LIMIT] = question[Q_LIMIT]
    holder[HELD] = holder[HELD] + max(0, question[Q_ADOPTED])
    for _, end_of in ipairs(question[Q_ENDED]) do
        local ended = max(0, min(end_of[2], holder[HELD]))
        holder[HELD] = holder[HELD] - ended
        cool(ledger, now - min(end_of[1] > 0 and end_of[1] or 0, ledger[L_ADAPTIVE][WINDOW]), ended)
    end
    holder[HELD] = holder[HELD] - max(0, min(question[Q_UNUSED], holder[HELD]))
    for _, refusal in ipairs(question[Q_REFUSALS]) do
        on_rate_limited(ledger[L_ADAPTIVE], now, refusal[R_RETRY_AFTER], refusal[R_QUOTA])
    end
    expire(ledger, now)
    if holder[INTERACTIVE] == 0 then holder[INTERACTIVE_SINCE] = now end
    if holder[BULK] == 0 then holder[BULK_SINCE] = now end
    holder[INTERACTIVE], holder[BULK] = max(0, question[Q_INTERACTIVE]), max(0, question[Q_BULK])
    holder[SPARE] = max(0, question[Q_SPARE])
end

local function keep_to_lowest_limit(ledger)
    local holders, limit = ledger[L_HOLDERS], INFINITY
    for place = 1, #holders do
        if holders[place][LIMIT] < limit then limit = holders[place][LIMIT] end
    end
    if limit ~= ledger[L_ADAPTIVE][UNREDUCED] then change_limit(ledger[L_ADAPTIVE], limit) end
end

local function reserve_of(ledger, question)
    return max(0, min(question[Q_RESERVE], ledger[L_ADAPTIVE][CAPACITY] - 1))
end

local function turn_of(ledger)
    return max(1, floor(ledger[L_ADAPTIVE][CAPACITY] * TURN / ledger[L_ADAPTIVE][BASE_WINDOW]))
end

-- A contender is {since, id, wanted}.
local function share_out(asking, contenders, free, turn)
    local there, total = {}, 0
    for _, one in ipairs(contenders) do
        if one[3] > 0 then
            there[#there + 1] = one
            total = total + one[3]
        end
    end
    table.sort(there, function(one, other) return earlier(one[1], one[2], other[1], other[2]) end)
    total = min(max(0, free), total)
    local left, own, turns = total, 0, 0
    while left > 0 do
        for _, one in ipairs(there) do
            local part = min(turn, one[3] - turns * turn, left)
            if part > 0 then
                left = left - part
                if one[2] == asking then own = own + part end
            end
        end
        turns = turns + 1
    end
    return own, total
end

local function grant(ledger, holder, question, now)
    local free = ledger[L_ADAPTIVE][CAPACITY] - count_used(ledger)
    if free <= 0 then return 0 end
    local holders, turn, for_interactive, for_bulk = ledger[L_HOLDERS], turn_of(ledger), {}, {}
    for place = 1, #holders do
        local other = holders[place]
        if other == holder or (other[DUE] <= now and now < other[DUE] + KEPT) then
            for_interactive[#for_interactive + 1] = {other[INTERACTIVE_SINCE], other[ID], other[INTERACTIVE]}
            for_bulk[#for_bulk + 1] = {other[BULK_SINCE], other[ID], other[BULK]}
        end
    end
    local interactive, taken = share_out(holder[ID], for_interactive, free, turn)
    local reserve = reserve_of(ledger, question)
    local left = free - taken - reserve
    local bulk = share_out(holder[ID], for_bulk, left, turn)
    if interactive > 0 then
        holder[INTERACTIVE] = holder[INTERACTIVE] - interactive
        holder[INTERACTIVE_SINCE] = now
    end
    if bulk > 0 then
        holder[BULK] = holder[BULK] - bulk
        holder[BULK_SINCE] = now
    end
    local wanted = 0
    for place = 1, #holders do wanted = wanted + holders[place][INTERACTIVE] + holders[place][BULK] end
    local for_nobody = free - interactive - bulk - wanted - reserve
    local ahead = max(0, min(question[Q_AHEAD], floor(for_nobody / 2)))
    holder[HELD] = holder[HELD] + interactive + bulk + ahead
    return interactive + bulk + ahead
end

local function time_of(ledger, position, free, kept)
    local times, counts, left = ledger[L_ENDED], ledger[L_COUNTS], position - free
    if left <= 0 then return #times > 0 and min(kept, times[1] + ledger[L_ADAPTIVE][WINDOW]) or kept end
    for place = 1, #counts do
        left = left - counts[place]
        if left <= 0 then return times[place] + ledger[L_ADAPTIVE][WINDOW] end
    end
    return INFINITY
end

local function plan(ledger, holder, question, now, opens)
    local terms = question[Q_TERMS]
    holder[DUE] = INFINITY
    if holder[INTERACTIVE] == 0 and holder[BULK] == 0 then return 0 end
    local turn, free = turn_of(ledger), ledger[L_ADAPTIVE][CAPACITY] - count_used(ledger)
    local waiting, spare, before_interactive, before_bulk = 1, 0, 0, holder[INTERACTIVE] + reserve_of(ledger, question)
    local holders = ledger[L_HOLDERS]
    for place = 1, #holders do
        local other = holders[place]
        if other ~= holder then
            spare = spare + other[SPARE]
            if other[INTERACTIVE] > 0 or other[BULK] > 0 then waiting = waiting + 1 end
            if other[INTERACTIVE] > 0 then
                before_bulk = before_bulk + other[INTERACTIVE]
                if earlier(other[INTERACTIVE_SINCE], other[ID], holder[INTERACTIVE_SINCE], holder[ID]) then
                    before_interactive = before_interactive + min(other[INTERACTIVE], turn)
                end
            end
            if other[BULK] > 0 and earlier(other[BULK_SINCE], other[ID], holder[BULK_SINCE], holder[ID]) then
                before_bulk = before_bulk + min(other[BULK], turn)
            end
        end
    end
    local due, kept = INFINITY, now < opens and opens or now + KEPT
    if holder[INTERACTIVE] > 0 then due = time_of(ledger, before_interactive + 1, free, kept) end
    if holder[BULK] > 0 then
        due = min(due, time_of(ledger, before_bulk + min(holder[BULK], turn), free, kept))
    end
    local spread = waiting * SPREAD
    local pause = max(holder[INTERACTIVE] > 0 and PAUSE_INTERACTIVE or PAUSE_BULK, spread)
    holder[DUE] = due == INFINITY and max(now, opens) + pause or max(due, opens)
    local soonest = (spare == 0 or now < opens) and max(terms[T_LEASE] / RENEWALS, spread) or pause
    local again = max(1 / GRAINS, min(holder[DUE] - now, soonest))
    if holder[HELD] == 0 then holder[ENDS] = now + again + terms[T_LEASE] end
    return again
end

local function answer_to(account, ledger, holder, question, now)
    local adaptive = ledger[L_ADAPTIVE]
    local again = plan(ledger, holder, question, now, max(account[A_CLOSED_UNTIL], adaptive[BLOCKED_UNTIL]))
    local holders, waiting = ledger[L_HOLDERS], 0
    for place = 1, #holders do
        local other = holders[place]
        if other ~= holder then waiting = waiting + other[INTERACTIVE] + other[BULK] end
    end
    local quota = {}
    if #adaptive[NAMED] > 0 then quota = {adaptive[NAMED][1], adaptive[NAMED][2], adaptive[FORGET_AT] - now} end
    return {
        question[Q_SEQ], true, holder[GRANTED], again, waiting > 0, adaptive[CAPACITY], count_used(ledger), waiting,
        #holders, max(0, account[A_CLOSED_UNTIL] - now), max(0, adaptive[BLOCKED_UNTIL] - now), quota, now,
    }
end

local function unknown(question, now)
    return {question[Q_SEQ], false, 0, 0, false, 0, 0, 0, 0, 0, 0, {}, now}
end

local function deal(account, ledger, question, name, now, life)
    local terms = question[Q_TERMS]
    account = live_on(account, terms, now, life)
    local is_named = contains(account[A_LIMITS], name)
    if not ledger or ledger[L_SINCE] ~= account[A_SINCE] then
        if is_named then
            close(account, terms, now)
            account[A_LIMITS], is_named = {}, false
        end
        ledger = {account[A_SINCE], now, of(question[Q_LIMIT], terms[T_WINDOW]), {}, {}, {}}
    end
    if not is_named then table.insert(account[A_LIMITS], name) end
    if now < ledger[L_SEEN] then set_back(ledger, now - ledger[L_SEEN]) end
    ledger[L_SEEN] = now
    if question[Q_JUMPED] then close(account, terms, now) end
    end_leases(ledger, terms, now)
    expire(ledger, now)
    local holder = find(ledger, question[Q_HOLDER])
    if not holder then
        if question[Q_SEQ] > 1 then return account, ledger, unknown(question, now) end
        holder = {question[Q_HOLDER], now, question[Q_LIMIT], 0, 0, 0, 0, 0, 0, INFINITY, 0, 0}
        table.insert(ledger[L_HOLDERS], holder)
    elseif question[Q_SEQ] < holder[SEQ] then
        return account, ledger, unknown(question, now)
    end
    if question[Q_SEQ] > holder[SEQ] then
        holder[SEQ], holder[ENDS] = question[Q_SEQ], now + terms[T_LEASE]
        note(ledger, holder, question, now)
        keep_to_lowest_limit(ledger)
        local is_open = now >= account[A_CLOSED_UNTIL] and now >= ledger[L_ADAPTIVE][BLOCKED_UNTIL]
        holder[GRANTED] = is_open and grant(ledger, holder, question, now) or 0
    end
    local answer = answer_to(account, ledger, holder, question, now)
    if question[Q_LEAVING] and holder[HELD] == 0 then
        local others = {}
        for _, other in ipairs(ledger[L_HOLDERS]) do
            if other ~= holder then others[#others + 1] = other end
        end
        ledger[L_HOLDERS] = others
    end
    return account, ledger, answer
end

-- The store

local function unpack_state(data)
    if not data then return nil end
    local is_readable, state = pcall(cmsgpack.unpack, data)
    if not is_readable or type(state) ~= "table" then return nil, "BMSUNREADABLE" end
    return state
end

local key, life, asked, clock = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local now
if clock == "" then
    local time = redis.call("TIME")
    now = tonumber(time[1]) + tonumber(time[2]) / 1000000
else
    now = tonumber(clock)
end

local questions = asked == "" and {} or cmsgpack.unpack(asked)
local fields = {"account"}
for place, item in ipairs(questions) do fields[place + 1] = "limit:" .. item[1] end
local kept = redis.call("HMGET", key, unpack(fields))

local account, problem = unpack_state(kept[1])
if problem then return redis.error_reply(problem .. " account") end
if account and account[A_VERSION] > VERSION then return redis.error_reply("BMSLATER " .. account[A_VERSION]) end

local answers, ledgers = {}, {}
if asked == "" then account = open_account(account, now, life) end
for place, item in ipairs(questions) do
    local field = fields[place + 1]
    local ledger = ledgers[field]
    if not ledger then
        ledger, problem = unpack_state(kept[place + 1])
        if problem then return redis.error_reply(problem .. " limit") end
    end
    account, ledgers[field], answers[place] = deal(account, ledger, item[2], item[1], now, life)
end

local changed, packed = {}, cmsgpack.pack(account)
if packed ~= kept[1] then changed = {"account", packed} end
for place = 1, #questions do
    local field = fields[place + 1]
    if ledgers[field] then
        packed, ledgers[field] = cmsgpack.pack(ledgers[field]), nil
        if packed ~= kept[place + 1] then
            changed[#changed + 1] = field
            changed[#changed + 1] = packed
        end
    end
end
if #changed > 0 then redis.call("HSET", key, unpack(changed)) end
return cmsgpack.pack(answers)
