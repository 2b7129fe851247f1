// MaxSim over codes in integers, without decoding to floats: the formula of cpu/prepare.py, bit for bit.
//
//   score(q, token) = (centroid_score[centroid][q] + factor[q] * float(sum_d w[q][d] u[d])) * norm,   centroid_score = q . centroid + q . lowest
//
// A warp scores a document, 8 tokens per tile. A dot product does not care in which order its terms come, so a lane turns the
// bytes of a token that it has loaded into operands as they come, and the weights are laid out to match (decoder.py,
// `operand_dims`).
#include "maxsim.cuh"
#include "scores.cuh"

constexpr int PACKED = 0, LOOKED_UP = 1, COPIED = 2, CODEWORDS = 3;
constexpr int MAGIC = 0x4b400000;  // as a float, 2^23 + 2^22: whole numbers from -2^22 on are added to it as to an int

// Bytes that a lane loads at once, of at most 32 numbers: few lanes idle in the last chunk of a row, and as many as possible.
DEVICE constexpr int piece_of(int width, int numbers_a_byte) {
    int best = 1;
    for (int piece = 2; piece <= 16 && piece * numbers_a_byte <= 32; piece *= 2) {
        const int now = (width + 4 * piece - 1) / (4 * piece) * piece, before = (width + 4 * best - 1) / (4 * best) * best;
        if (width % piece == 0 && now <= before) best = piece;
    }
    return best;
}

// A row of WIDTH bytes is taken in chunks of four pieces, one per lane t; SIZE is bits, or bytes of a codeword.
template <int KIND, int SIZE, int WIDTH>
struct Layout {
    static constexpr int NUMBERS = KIND == CODEWORDS ? SIZE : 8 / SIZE;  // of a byte
    static constexpr int PIECE = piece_of(WIDTH, NUMBERS);
    static constexpr int CHUNKS = (WIDTH + 4 * PIECE - 1) / (4 * PIECE);
    static constexpr int WORDS = (PIECE + 3) / 4;
    static constexpr int OPERANDS = KIND == CODEWORDS ? (PIECE * SIZE + 3) / 4 : WORDS * 8 / SIZE;
    static constexpr int PRODUCTS = (OPERANDS + 1) / 2;  // of a chunk
    static constexpr bool SMALL = WIDTH * NUMBERS * 63 * 255 < 1 << 22;  // sums fit MAGIC
};

// What turns codes into bytes: 16 levels in registers, or a table in shared memory.
template <int KIND, int SIZE, int WIDTH>
struct Bytes {
    using L = Layout<KIND, SIZE, WIDTH>;
    u32 levels[KIND == PACKED ? (SIZE == 4 ? 4 : 1) : 1];
    const u8* table;

    // Operand j of a chunk from a lane's piece of it; j is known to the compiler.
    DEVICE u32 operand(const u32 (&words)[L::WORDS], int chunk, int j) const {
        if (j >= L::OPERANDS) return 0;
        if (KIND == COPIED) return words[j % L::WORDS];
        if (KIND == LOOKED_UP) {
            const u32 w = words[j % L::WORDS];
            return table[w & 255] | table[w >> 8 & 255] << 8 | table[w >> 16 & 255] << 16 | u32(table[w >> 24]) << 24;
        }
        if (KIND == CODEWORDS) {
            constexpr int UNIT = SIZE % 4 == 0 ? 4 : SIZE % 2 == 0 ? 2 : 1;
            const int first = chunk * 4 * L::PIECE + lane_id() % 4 * L::PIECE;
            const u8* words_of = table + (first < WIDTH ? first : 0) * 256 * SIZE;
            u32 out = 0;
#pragma unroll
            for (int e = 0; e < 4; e += UNIT) {
                const int i = (4 * j + e) / SIZE, part = (4 * j + e) % SIZE;
                if (i >= L::PIECE) continue;
                const u8* at = words_of + (i * 256 + (words[i / 4 % L::WORDS] >> i % 4 * 8 & 255)) * SIZE + part;
                if (UNIT == 4) out = *reinterpret_cast<const u32*>(at);
                if (UNIT == 2) out |= u32(*reinterpret_cast<const u16*>(at)) << 8 * e;
                if (UNIT == 1) out |= u32(*at) << 8 * e;
            }
            return out;
        }
        constexpr int EACH = 8 / (KIND == PACKED ? SIZE : 8);  // operands of a word
        const u32 w = words[j / EACH % L::WORDS];
        const int shift = j % EACH / 2 * SIZE, high = j % 2 * 16;
        if (SIZE == 4) {
            const u32 index = opaque(w & 0x77777777) >> high, upper = opaque(w >> 1 & 0x44444444 | 0x32103210) >> high;
            return permute_bytes(permute_bytes(levels[0], levels[1], index), permute_bytes(levels[2], levels[3], index), upper);
        }
        return permute_bytes(levels[0], levels[0], opaque(w >> shift & (SIZE == 2 ? 0x33333333 : 0x11111111)) >> high);
    }
};

// A lane's piece of a row, as words; for a lane past the row's end, whose weights are zeros, any bytes of the row.
template <int KIND, int SIZE, int WIDTH>
DEVICE void load_piece(u32 (&words)[Layout<KIND, SIZE, WIDTH>::WORDS], const u8* row, int chunk) {
    constexpr int PIECE = Layout<KIND, SIZE, WIDTH>::PIECE;
    const int from = (4 * chunk + lane_id() % 4) * PIECE;
    const u8* at = row + (from < WIDTH ? from : 0);
    if constexpr (PIECE == 16) {
        const uint4 v = stream16(at);
        words[0] = v.x, words[1] = v.y, words[2] = v.z, words[3] = v.w;
    } else if constexpr (PIECE == 8) {
        const uint2 v = stream8(at);
        words[0] = v.x, words[1] = v.y;
    } else if constexpr (PIECE == 4) {
        words[0] = stream4(at);
    } else if constexpr (PIECE == 2) {
        words[0] = read_only(reinterpret_cast<const u16*>(at));
    } else {
        words[0] = read_only(at);
    }
}

// Codes of all tokens, and what they are multiplied with for one group of a query's tokens.
struct Tokens {
    const u8* codes;
    const void* ids;  // of id_bytes (2 or 4) each, or null
    int id_bytes;
    const half* norms;  // or null
    u32 last_centroid;
};

// Centroid scores of a lane's N query tokens with one centroid.
template <int N>
DEVICE void load_centroid_scores(float (&to)[N], const char* from, float) {
    if constexpr (N == 4) {
        const float4 v = read_only(reinterpret_cast<const float4*>(from));
        to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
    } else {
        const float2 v = read_only(reinterpret_cast<const float2*>(from));
        to[0] = v.x, to[1] = v.y;
    }
}
template <int N>
DEVICE void load_centroid_scores(float (&to)[N], const char* from, half) {
    u32 words[N / 2];
    if constexpr (N == 4) {
        const uint2 v = read_only(reinterpret_cast<const uint2*>(from));
        words[0] = v.x, words[1] = v.y;
    } else {
        words[0] = read_only(reinterpret_cast<const u32*>(from));
    }
#pragma unroll
    for (int i = 0; i < N; i++) to[i] = to_float(half{u16(words[i / 2] >> 16 * (i % 2))});
}

template <int KIND, int SIZE, int WIDTH, int HALVES, class Score>
struct Scan {
    using L = Layout<KIND, SIZE, WIDTH>;
    static constexpr int ROWS = 2 * HALVES;                                   // query tokens 8i + g of a lane
    static constexpr bool KEPT = L::CHUNKS * L::PRODUCTS * HALVES * 4 <= 32;  // weights stay in registers
    static constexpr int TILES = 4;                                           // of 8 tokens, whose codes are under way
    // of them multiplied side by side, as registers allow
    static constexpr int SIDE = KIND == CODEWORDS || (KEPT && L::WORDS == 4) ? 1 : 2;
    Bytes<KIND, SIZE, WIDTH> bytes;
    uint4 kept[KEPT ? L::CHUNKS * L::PRODUCTS : 1][HALVES];
    float factor[ROWS];
    const uint4* weights;
    const char* table;

    DEVICE void begin(const uint4* group_weights, const float* factors, const Score* group_table) {
        weights = group_weights + lane_id();
        table = opaque(reinterpret_cast<const char*>(group_table + lane_id() / 4 * ROWS));
#pragma unroll
        for (int i = 0; i < ROWS; i++) factor[i] = factors[8 * i + lane_id() / 4];
        if (KEPT)
#pragma unroll
            for (int s = 0; s < L::CHUNKS * L::PRODUCTS; s++)
#pragma unroll
                for (int m = 0; m < HALVES; m++) kept[KEPT ? s : 0][m] = read_only(weights + (s * HALVES + m) * WARP);
    }

    DEVICE void multiply_chunk(int (&c)[HALVES][4], const u32 (&words)[L::WORDS], int chunk) const {
        const uint4* of_chunk = opaque(weights + chunk * L::PRODUCTS * HALVES * WARP);
#pragma unroll
        for (int k = 0; k < L::PRODUCTS; k++) {
            const u32 b0 = bytes.operand(words, chunk, 2 * k), b1 = bytes.operand(words, chunk, 2 * k + 1);
#pragma unroll
            for (int m = 0; m < HALVES; m++) {
                const int s = chunk * L::PRODUCTS + k;
                const uint4 w = KEPT ? kept[KEPT ? s : 0][m] : load16(of_chunk + (k * HALVES + m) * WARP);
                const u32 a[4] = {w.x, w.y, w.z, w.w};
                mma_s8u8(c[m], a, b0, b1);
            }
        }
    }

    // The best of tokens `from` to `to` (exclusive) of the document whose first row is `low`.
    DEVICE void run(float (&best)[ROWS], const Tokens& tokens, i64 low, int from, int to) const {
        const int g = lane_id() / 4, t = lane_id() % 4, last = to - 1;
        if (from >= to) return;
        const u8* document = opaque(tokens.codes + low * WIDTH);
        const char* ids = opaque(static_cast<const char*>(tokens.ids) + low * tokens.id_bytes);
        const half* norms = opaque(tokens.norms + (tokens.norms ? low : 0));
        const auto row = [&](int token) { return document + i64(min(token + g, last)) * WIDTH; };
        u32 id, next_id;
        float norm, next_norm;
        // lane (g, t) asks for the centroid and the norm of token 8(g / 2) + 2t + g % 2 of a block
        const auto ask = [&](int first) {
            const int at = min(first + g / 2 * 8 + 2 * t + g % 2, last);
            next_id = 0;
            if (tokens.id_bytes == 2) next_id = read_only(reinterpret_cast<const u16*>(ids + i64(at) * 2));
            if (tokens.id_bytes == 4) next_id = read_only(reinterpret_cast<const u32*>(ids + i64(at) * 4));
            next_id = min(next_id, tokens.last_centroid);
            next_norm = 1;
            if (tokens.norms) next_norm = to_float(half{read_only(&norms[at].bits)});
        };
        ask(from);
        u32 words[TILES][L::WORDS];
#pragma unroll
        for (int n = 0; n < TILES; n++) load_piece<KIND, SIZE, WIDTH>(words[n], row(from + 8 * n), 0);

        const auto finish = [&](const int (&c)[HALVES][4], int n) {
#pragma unroll
            for (int j = 0; j < 2; j++) {
                const float length = shuffle_group(norm, 2 * n + j);
                float centroid_scores[ROWS];
                load_centroid_scores(centroid_scores, table + u64(shuffle_group(id, 2 * n + j)) * (8 * ROWS * sizeof(Score)), Score());
#pragma unroll
                for (int i = 0; i < ROWS; i++) {
                    const int sum = c[i / 2][i % 2 * 2 + j];
                    const float whole = L::SMALL ? add(float_of(u32(sum)), -float_of(MAGIC)) : float(sum);
                    best[i] = max(best[i], multiply(add(centroid_scores[i], multiply(factor[i], whole)), length));
                }
            }
        };
#pragma unroll 1
        for (int first = from; first < to; first += 8 * TILES) {
            id = next_id;
            norm = next_norm;
            ask(first + 8 * TILES);
#pragma unroll
            for (int side = 0; side < TILES; side += SIDE) {
                if (first + 8 * side >= to) break;
                int c[SIDE][HALVES][4];
#pragma unroll
                for (int n = 0; n < SIDE; n++) reset(c[n]);
#pragma unroll(KEPT ? L::CHUNKS : 1)
                for (int chunk = 0; chunk < L::CHUNKS; chunk++)
#pragma unroll
                    for (int n = side; n < side + SIDE; n++) {
                        multiply_chunk(c[n - side], words[n], chunk);
                        const bool done = chunk + 1 == L::CHUNKS;  // each tile's next bytes are asked for when it is multiplied
                        load_piece<KIND, SIZE, WIDTH>(words[n], row(first + 8 * (done ? TILES + n : n)), done ? 0 : chunk + 1);
                    }
#pragma unroll
                for (int n = 0; n < SIDE; n++) finish(c[n], side + n);
            }
        }
    }

    static DEVICE void reset(int (&c)[HALVES][4]) {
#pragma unroll
        for (int m = 0; m < HALVES; m++)
#pragma unroll
            for (int i = 0; i < 4; i++) c[m][i] = L::SMALL ? MAGIC : 0;
    }

    // Maxima over the four lanes that share query tokens, to `out` by query token.
    static DEVICE void write(float* out, float (&best)[ROWS]) {
        const int g = lane_id() / 4, t = lane_id() % 4;
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
#pragma unroll
            for (int mask = 1; mask <= 2; mask *= 2) best[i] = max(best[i], shuffle_xor(best[i], mask));
            if (t == i) out[8 * i + g] = best[i];
        }
    }
};

// `total` plus a group's maxima, one after the other; tokens that pad the group have 0, or minus infinity as all the others.
template <int ROWS>
DEVICE float sum_of(float total, const float* maxima) {
#pragma unroll
    for (int q = 0; q < 8 * ROWS; q += 4) {
        const float4 v = *reinterpret_cast<const float4*>(maxima + q);
        total = add(add(add(add(total, v.x), v.y), v.z), v.w);
    }
    return total;
}

// scores (n_queries, n) of documents `codes` (rows, WIDTH). For every query, `groups` groups of 16 HALVES tokens, as
// round_queries leaves them: weights, factors (NaN where a query is not finite), and centroid_scores `table` (n_centroids, 8, 2 HALVES),
// which as halves are read twice as fast and rounded to 11 bits. tally (n_queries, BINS), or null: counts of the scores' steps.
// Shared memory: the table of bytes, if the kind has one, and a group's maxima for each warp.
template <int KIND, int SIZE, int WIDTH, int HALVES, class Score>
__global__ void __launch_bounds__(WARPS* WARP, 2)
    maxsim_codes(const i64* __restrict__ query_offsets, i64 n_queries, i64 n_query_rows, const u8* __restrict__ codes,
                 const void* __restrict__ ids, int id_bytes, const half* __restrict__ norms, const i64* __restrict__ offsets,
                 i64 n_documents, i64 n_rows, const i64* __restrict__ only, i64 n, const u8* __restrict__ bytes,
                 int table_bytes, const uint4* __restrict__ weights, const float* __restrict__ factors,
                 const Score* __restrict__ table, i64 n_centroids, int groups, float* scores, int* tally, int first_step) {
    using S = Scan<KIND, SIZE, WIDTH, HALVES, Score>;
    using L = typename S::L;
    constexpr int ROWS = S::ROWS, GROUP_ROWS = 8 * ROWS;
    const int warp = threadIdx.x / WARP;
    char* shared = shared_memory();
    float* maxima = reinterpret_cast<float*>(shared + table_bytes);
    const Items asked{query_offsets, n_queries, n_query_rows, nullptr}, items{offsets, n_documents, n_rows, only};
    const Tokens tokens{codes, ids, id_bytes, norms, u32(n_centroids - 1)};

    S scan;
    if (KIND == PACKED)
#pragma unroll
        for (int i = 0; i < (SIZE == 4 ? 4 : 1); i++) scan.bytes.levels[i] = read_only(reinterpret_cast<const u32*>(bytes) + i);
    if (KIND == LOOKED_UP || KIND == CODEWORDS) {
        for (int i = threadIdx.x * 16; i < table_bytes; i += WARPS * WARP * 16)
            *reinterpret_cast<uint4*>(shared + i) = read_only(reinterpret_cast<const uint4*>(bytes + i));
        block_barrier();
    }
    scan.bytes.table = reinterpret_cast<const u8*>(shared);

#pragma unroll 1
    for (i64 query = blockIdx.y; query < n_queries; query += gridDim.y) {
        i64 query_low;
        int query_rows;
        asked.span(query, query_low, query_rows);
        const int n_groups = min((query_rows + GROUP_ROWS - 1) / GROUP_ROWS, groups);
        float* of_query = scores + query * n;
        if (n_groups == 0)
            for (int turn = threadIdx.x; Turns::item_of(turn) < n; turn += WARPS * WARP) {
                of_query[Turns::item_of(turn)] = 0;
                count_score(tally, query, first_step, 0);
            }
#pragma unroll 1
        for (int group = 0; group < n_groups; group++) {
            const i64 which = query * groups + group;
            scan.begin(weights + which * L::CHUNKS * L::PRODUCTS * HALVES * WARP, factors + which * GROUP_ROWS,
                       table + which * n_centroids * GROUP_ROWS);
            const bool endless = factors[query * groups * GROUP_ROWS] != factors[query * groups * GROUP_ROWS];
            Turns turns(items, n);
#pragma unroll 1
            while (turns.next()) {
                float best[ROWS];
#pragma unroll
                for (int i = 0; i < ROWS; i++) best[i] = -infinity();
                scan.run(best, tokens, turns.low, turns.from, turns.to);
                S::write(maxima + warp * GROUP_ROWS, best);
                warp_barrier();
                if (turns.together) {
                    block_barrier();
                    float greatest = -infinity();
#pragma unroll
                    for (int other = 0; other < WARPS; other++)
                        greatest = max(greatest, maxima[other * GROUP_ROWS + lane_id() % GROUP_ROWS]);
                    block_barrier();
                    maxima[warp * GROUP_ROWS + lane_id() % GROUP_ROWS] = greatest;
                    warp_barrier();
                }
                if (lane_id() == 0 && (!turns.together || warp == 0)) {
                    const float total = sum_of<ROWS>(group ? of_query[turns.item] : 0, maxima + warp * GROUP_ROWS);
                    const float score = endless ? infinity() - infinity() : total;
                    of_query[turns.item] = score;
                    if (group + 1 == n_groups) count_score(tally, query, first_step, score);
                }
                warp_barrier();
            }
        }
    }
}
