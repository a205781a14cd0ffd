/* The search of posterior_mode.py for Prophet's model, in the basis in which it costs least.
 *
 * The unknowns are the line's values at its corners (its two ends and the changepoints at which the rate changes now)
 * and the weights of the Fourier terms. The hat functions of the corners overlap with their neighbors only, so the
 * normal matrix is tridiagonal, bordered by the Fourier terms; the priors of k and m fit into it. Sums over the bars
 * between two possible corners (segments) suffice for each system and for the gradient, which is a suffix sum.
 *
 * A straight line through the first and the last value is subtracted first, so that little is lost to rounding.
 *
 * Nothing of a C library is called: the caller hands over all memory, and sine, cosine and logarithm are computed here,
 * so that every architecture returns the same bits. It must be compiled without contraction of a*b + c and without
 * -ffast-math. No function fails; a result that was not found has a status. Names of the model are those of model.py.
 */

#include <stdint.h>

#ifdef _WIN32
#define EXPORT __declspec(dllexport)
int __stdcall DllMainCRTStartup(void *library, uint32_t reason, void *reserved) {
    (void)library, (void)reason, (void)reserved;
    return 1; /* Windows calls this when it loads the library */
}
#else
#define EXPORT __attribute__((visibility("default")))
#endif

enum {
    INTERFACE = 1, /* changes with the structures below; kernel.py has the same number */
    MAX_NODES = 27, /* 25 changepoints and two ends */
    MAX_SEGMENTS = MAX_NODES - 1,
    MAX_WAVES = 34, /* sine and cosine of 10 yearly, 3 weekly and 4 daily terms; always an even number */
    KEPT_STEPS = 32, /* of each of the two searches, in a path */
    MAX_STEPS = 250, /* as in posterior_mode.py, like all that follow */
    MAX_EXCHANGES = 600,
    FULL_EXCHANGES = 5,
};

static const double CONVERGED = 1e-10, MIN_OUTSIDE = 1e-10, APART = 1e-6, MEETS = 1e-4, MIN_NOISE = 1e-3;
static const double ROUNDING = 1e-12; /* of base.py */
static const double PI = 3.14159265358979323846;

enum status { FOUND, NOT_FINITE, STILL, NOT_FOUND };

/* The signs of the changes: bit i is set if the rate rises, or falls, at node i. */
struct signs {
    uint32_t rises, falls;
};

/* The signs at each step of a search down from the largest variance, and of one up from the smallest. */
struct path {
    uint32_t steps[2];
    struct signs signs[2][KEPT_STEPS];
};

struct season {
    int64_t period_ns, order;
};

/* A request: some series on one calendar. Arrays have no gaps. */
struct job {
    int64_t bars, nodes, waves, seasons, rows;
    const int64_t *times_ns; /* (bars,), strictly increasing */
    const int64_t *node_bars; /* (nodes,): the first bar, the changepoints, the last bar; strictly increasing */
    const struct season *season; /* (seasons,) */
    double line_ridge, wave_ridge, lasso; /* 1/scale² of the normal priors, 1/scale of the Laplace prior */
    const double *values; /* (rows, bars) */
    const struct path *begin; /* (rows,) or NULL: the paths of similar series */
    struct path *path; /* (rows,) */
    double *parameters; /* (rows, nodes + waves): k, m, the changes, the weights of the Fourier terms */
    double *line; /* (rows, nodes): the line at the nodes, in units of the values */
    double *numbers; /* (rows, 4): noise, scale, residual, and the mean Fourier term in units of the values */
    int64_t *status; /* (rows, 2): an enum status, and whether there is another mode */
    void *memory; /* as many bytes as kernel_memory_bytes says, aligned to 16 */
};

/* Sums over the bars between two nodes, for the weights of both: 1 at the one's time, falling to 0 at the other's. */
struct span {
    double inverse_width, left, cross, right;
};

struct calendar {
    int64_t bars;
    int nodes, segments, waves;
    const int64_t *node_bars;
    double line_ridge, wave_ridge, lasso;
    double *time, *local, *wave; /* scaled time, time since the segment's begin, Fourier terms (bars, waves) */
    double at[MAX_NODES], width[MAX_SEGMENTS];
    double count[MAX_SEGMENTS], first[MAX_SEGMENTS], second[MAX_SEGMENTS]; /* moments of local */
    struct span span[MAX_SEGMENTS][MAX_NODES];
    double wave_sum[MAX_SEGMENTS][MAX_WAVES], wave_first[MAX_SEGMENTS][MAX_WAVES];
    double wave_gram[MAX_WAVES][MAX_WAVES];
};

struct series {
    double *y; /* (bars,), scaled */
    double base, rate, squares, plain_squares; /* the line subtracted; sums of squares after and before */
    double sum[MAX_SEGMENTS], first[MAX_SEGMENTS]; /* moments of what remains */
    double left[MAX_SEGMENTS][MAX_NODES], right[MAX_SEGMENTS][MAX_NODES];
    double wave[MAX_WAVES];
};

/* The equations of some corners, factorized. */
struct equations {
    int corners;
    int corner[MAX_NODES];
    double pivot[MAX_NODES], cross[MAX_NODES], inverse[MAX_NODES], factor[MAX_NODES];
    double known[MAX_NODES], penalty[MAX_NODES];
    double coupling[MAX_NODES][MAX_WAVES], wave_factor[MAX_WAVES][MAX_WAVES], wave_inverse[MAX_WAVES];
};

/* A line and Fourier terms, less the line that was subtracted. */
struct model {
    double corner[MAX_NODES], wave[MAX_WAVES];
    double value[MAX_NODES], slope[MAX_SEGMENTS], change[MAX_NODES];
    double sum[MAX_SEGMENTS], first[MAX_SEGMENTS]; /* moments of the residuals */
};

struct search {
    struct model model;
    struct signs signs;
    double variance, squares;
    int is_found, is_met; /* met: the search from below has reached the result of the one from above */
};

struct memory {
    struct calendar calendar;
    struct series series;
    struct equations equations;
    struct model model;
    struct search upper, lower;
};

static double magnitude(double x) { return x < 0 ? -x : x; }

static double larger(double a, double b) { return a > b ? a : b; }

static int is_finite(double x) { return x - x == 0; }

static int is_near(double a, double b, double relative) { return magnitude(a / b - 1) < relative; }

static int same(struct signs a, struct signs b) { return a.rises == b.rises && a.falls == b.falls; }

static double sign_at(struct signs signs, int node) {
    return (double)((signs.rises >> node) & 1) - (double)((signs.falls >> node) & 1);
}

static double dot(const double *a, const double *b, int even) {
    double one = 0, two = 0;
    for (int i = 0; i < even; i += 2) {
        one += a[i] * b[i];
        two += a[i + 1] * b[i + 1];
    }
    return one + two;
}

/* The natural logarithm of a positive, normal number, by log((1 + s)/(1 - s)) = 2(s + s³/3 + ...). */
static double logarithm(double x) {
    union {
        double value;
        uint64_t bits;
    } part = {x};
    int exponent = (int)(part.bits >> 52) - 1023;
    part.bits = (part.bits & 0xFFFFFFFFFFFFFull) | 0x3FF0000000000000ull;
    if (part.value > 1.4142135623730951) {
        part.value /= 2;
        exponent++;
    }
    double s = (part.value - 1) / (part.value + 1), square = s * s, sum = 0;
    for (int odd = 23; odd >= 1; odd -= 2) sum = sum * square + 1.0 / odd;
    return exponent * 0.6931471805599453 + 2 * s * sum;
}

/* Sine and cosine of a fraction of a turn; the polynomials are those of fdlibm for up to an eighth of it. */
static void turn(int64_t part, int64_t whole, double *sine, double *cosine) {
    int64_t quarter = (4 * part + whole / 2) / whole;
    double x = 2 * PI * ((double)(4 * part - quarter * whole) / (4 * (double)whole)), z = x * x;
    double s = x + x * z *
                       (-1.66666666666666324348e-01 +
                        z * (8.33333333332248946124e-03 +
                             z * (-1.98412698298579493134e-04 +
                                  z * (2.75573137070700676789e-06 +
                                       z * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10)))));
    double c = 1 - z / 2 +
               z * z *
                   (4.16666666666666019037e-02 +
                    z * (-1.38888888888741095749e-03 +
                         z * (2.48015872894767294178e-05 +
                              z * (-2.75573143513906633035e-07 +
                                   z * (2.08757232129817482790e-09 + z * -1.13596475577881948265e-11)))));
    switch (quarter & 3) {
    case 0: *sine = s, *cosine = c; break;
    case 1: *sine = c, *cosine = -s; break;
    case 2: *sine = -s, *cosine = -c; break;
    default: *sine = -c, *cosine = s;
    }
}

/* Fill (bars, waves) with Prophet's Fourier terms at some times. */
static void fill_waves(const int64_t *times_ns, int64_t bars, const struct season *season, int64_t seasons,
                       double *wave) {
    for (int64_t bar = 0; bar < bars; bar++) {
        for (int64_t each = 0; each < seasons; each++) {
            int64_t whole = season[each].period_ns, part = times_ns[bar] % whole;
            part += part < 0 ? whole : 0;
            for (int64_t order = 1; order <= season[each].order; order++, wave += 2)
                turn(order * part % whole, whole, wave, wave + 1);
        }
    }
}

/* --- sums over the bars --------------------------------------------------------------------------------------- */

static int64_t end_of(const struct calendar *on, int segment) {
    return on->node_bars[segment + 1] + (segment == on->segments - 1);
}

/* Sums for all pairs of nodes; those of a pair grow from segment to segment. */
static void sum_spans(struct calendar *on) {
    for (int from = 0; from < on->segments; from++) {
        double count = 0, first = 0, second = 0;
        for (int to = from + 1; to <= on->segments; to++) {
            double since = on->at[to - 1] - on->at[from];
            second += on->second[to - 1] + 2 * since * on->first[to - 1] + since * since * on->count[to - 1];
            first += on->first[to - 1] + since * on->count[to - 1];
            count += on->count[to - 1];
            double inverse = 1 / (on->at[to] - on->at[from]);
            double right = second * inverse * inverse, cross = first * inverse - right;
            on->span[from][to] = (struct span){inverse, count - first * inverse - cross, cross, right};
        }
    }
}

static void sum_waves(struct calendar *on) {
    int waves = on->waves;
    for (int a = 0; a < waves; a++)
        for (int b = 0; b < waves; b++) on->wave_gram[a][b] = 0;
    for (int segment = 0; segment < on->segments; segment++) {
        for (int a = 0; a < waves; a++) on->wave_sum[segment][a] = on->wave_first[segment][a] = 0;
        for (int64_t bar = on->node_bars[segment]; bar < end_of(on, segment); bar++) {
            const double *wave = on->wave + bar * waves;
            for (int a = 0; a < waves; a++) {
                on->wave_sum[segment][a] += wave[a];
                on->wave_first[segment][a] += on->local[bar] * wave[a];
                for (int b = 0; b <= a; b++) on->wave_gram[a][b] += wave[a] * wave[b];
            }
        }
    }
}

static void sum_calendar(struct calendar *on, const int64_t *times_ns) {
    double span_ns = (double)(times_ns[on->bars - 1] - times_ns[0]);
    for (int64_t bar = 0; bar < on->bars; bar++) on->time[bar] = (double)(times_ns[bar] - times_ns[0]) / span_ns;
    for (int node = 0; node < on->nodes; node++) on->at[node] = on->time[on->node_bars[node]];
    for (int segment = 0; segment < on->segments; segment++) {
        double first = 0, second = 0;
        for (int64_t bar = on->node_bars[segment]; bar < end_of(on, segment); bar++) {
            double local = on->local[bar] = on->time[bar] - on->at[segment];
            first += local;
            second += local * local;
        }
        on->width[segment] = on->at[segment + 1] - on->at[segment];
        on->count[segment] = (double)(end_of(on, segment) - on->node_bars[segment]);
        on->first[segment] = first;
        on->second[segment] = second;
    }
    sum_spans(on);
    sum_waves(on);
}

/* Sums of values at the bars of a segment: the values, the values by their time in it, their squares. */
static void sum_segment(const double *value, const double *local, int64_t count, double *sum, double *first,
                        double *squares) {
    double s[2] = {0, 0}, f[2] = {0, 0}, q[2] = {0, 0};
    int64_t bar = 0;
    for (; bar + 1 < count; bar += 2) {
        for (int lane = 0; lane < 2; lane++) {
            double v = value[bar + lane];
            s[lane] += v;
            f[lane] += v * local[bar + lane];
            q[lane] += v * v;
        }
    }
    if (bar < count) {
        s[0] += value[bar];
        f[0] += value[bar] * local[bar];
        q[0] += value[bar] * value[bar];
    }
    *sum = s[0] + s[1];
    *first = f[0] + f[1];
    *squares = q[0] + q[1];
}

/* The products of a series with the Fourier terms. */
static void sum_products(const struct calendar *on, const double *value, double *wave) {
    int waves = on->waves;
    for (int a = 0; a < waves; a++) wave[a] = 0;
    if (!waves) return;
    for (int64_t bar = 0; bar < on->bars; bar++)
        for (int a = 0; a < waves; a++) wave[a] += on->wave[bar * waves + a] * value[bar];
}

static void sum_series(const struct calendar *on, struct series *of, double *rest) {
    double ignored, squares;
    of->base = of->y[0];
    of->rate = of->y[on->bars - 1] - of->y[0];
    sum_segment(of->y, on->time, on->bars, &ignored, &ignored, &of->plain_squares);
    for (int64_t bar = 0; bar < on->bars; bar++) rest[bar] = of->y[bar] - (of->base + of->rate * on->time[bar]);
    of->squares = 0;
    for (int segment = 0; segment < on->segments; segment++) {
        int64_t begin = on->node_bars[segment];
        sum_segment(rest + begin, on->local + begin, end_of(on, segment) - begin, &of->sum[segment],
                    &of->first[segment], &squares);
        of->squares += squares;
    }
    for (int from = 0; from < on->segments; from++) {
        double sum = 0, first = 0;
        for (int to = from + 1; to <= on->segments; to++) {
            first += of->first[to - 1] + (on->at[to - 1] - on->at[from]) * of->sum[to - 1];
            sum += of->sum[to - 1];
            of->right[from][to] = first * on->span[from][to].inverse_width;
            of->left[from][to] = sum - of->right[from][to];
        }
    }
    sum_products(on, rest, of->wave);
}

/* --- a regression at a given variance ------------------------------------------------------------------------- */

/* The equations for these corners: of the likelihood, of v times the normal priors, and the slopes of the penalty. */
static void set_up(const struct calendar *on, const struct series *of, uint32_t active, struct signs signs, double v,
                   struct equations *eq) {
    int last = 0;
    eq->corner[0] = 0;
    for (uint32_t bits = active; bits; bits &= bits - 1) eq->corner[++last] = __builtin_ctz(bits);
    eq->corner[++last] = on->segments;
    eq->corners = last + 1;
    eq->pivot[0] = eq->known[0] = eq->penalty[0] = 0;
    double sign = 0;
    for (int i = 0; i < last; i++) {
        int from = eq->corner[i], to = eq->corner[i + 1];
        const struct span *span = &on->span[from][to];
        double next = sign_at(signs, to), pull = on->lasso * (sign - next) * span->inverse_width;
        sign = next;
        eq->pivot[i] += span->left;
        eq->pivot[i + 1] = span->right;
        eq->cross[i] = span->cross;
        eq->known[i] += of->left[from][to];
        eq->known[i + 1] = of->right[from][to];
        eq->penalty[i] -= pull;
        eq->penalty[i + 1] = pull;
    }
    double inverse = on->span[0][eq->corner[1]].inverse_width, slope = on->line_ridge * inverse;
    eq->penalty[0] += on->line_ridge * of->base - slope * of->rate;
    eq->penalty[1] += slope * of->rate;
    eq->pivot[0] += v * (on->line_ridge + slope * inverse);
    eq->pivot[1] += v * slope * inverse;
    eq->cross[0] -= v * slope * inverse;
}

/* The corners' products with the Fourier terms. */
static void couple(const struct calendar *on, struct equations *eq) {
    int waves = on->waves, last = eq->corners - 1;
    for (int a = 0; a < waves; a++) eq->coupling[0][a] = 0;
    for (int i = 0; i < last; i++) {
        int from = eq->corner[i], to = eq->corner[i + 1];
        double *left = eq->coupling[i], *right = eq->coupling[i + 1];
        for (int a = 0; a < waves; a++) right[a] = 0;
        for (int segment = from; segment < to; segment++) {
            const double *sum = on->wave_sum[segment], *first = on->wave_first[segment];
            double since = on->at[segment] - on->at[from];
            for (int a = 0; a < waves; a++) {
                left[a] += sum[a];
                right[a] += first[a] + since * sum[a];
            }
        }
        double inverse = on->span[from][to].inverse_width;
        for (int a = 0; a < waves; a++) {
            right[a] *= inverse;
            left[a] -= right[a];
        }
    }
}

/* Factorize the Fourier terms' part, from which the corners' have been eliminated, as LDLᵀ. */
static void factorize_waves(struct equations *eq, int waves) {
    double column[MAX_WAVES];
    for (int k = 0; k < waves; k++) {
        double inverse = eq->wave_inverse[k] = 1 / eq->wave_factor[k][k];
        for (int a = k + 1; a < waves; a++) column[a] = eq->wave_factor[a][k];
        for (int a = k + 1; a < waves; a++) {
            double *row = eq->wave_factor[a], factor = row[k] = column[a] * inverse;
            for (int b = k + 1; b <= a; b++) row[b] -= factor * column[b];
        }
    }
}

static void factorize(const struct calendar *on, double v, struct equations *eq) {
    int waves = on->waves, last = eq->corners - 1;
    double pivot = eq->pivot[0];
    for (int i = 0;; i++) {
        eq->inverse[i] = 1 / pivot;
        if (i == last) break;
        eq->factor[i] = eq->cross[i] * eq->inverse[i];
        pivot = eq->pivot[i + 1] - eq->factor[i] * eq->cross[i];
    }
    if (!waves) return;
    couple(on, eq);
    for (int a = 0; a < waves; a++) {
        for (int b = 0; b <= a; b++) eq->wave_factor[a][b] = on->wave_gram[a][b];
        eq->wave_factor[a][a] += v * on->wave_ridge;
    }
    for (int i = 0; i <= last; i++) {
        double *here = eq->coupling[i];
        if (i)
            for (int a = 0; a < waves; a++) here[a] -= eq->factor[i - 1] * eq->coupling[i - 1][a];
        for (int a = 0; a < waves; a++) {
            double scaled = here[a] * eq->inverse[i], *row = eq->wave_factor[a];
            for (int b = 0; b <= a; b++) row[b] -= scaled * here[b];
        }
    }
    factorize_waves(eq, waves);
}

/* Solve the equations in place, for corners and Fourier terms. */
static void substitute(const struct equations *eq, int waves, double *corner, double *wave) {
    int last = eq->corners - 1;
    for (int i = 0; i < last; i++) corner[i + 1] -= eq->factor[i] * corner[i];
    if (waves) {
        for (int i = 0; i <= last; i++) {
            double scaled = corner[i] * eq->inverse[i];
            for (int a = 0; a < waves; a++) wave[a] -= eq->coupling[i][a] * scaled;
        }
        for (int a = 0; a < waves; a++)
            for (int b = 0; b < a; b++) wave[a] -= eq->wave_factor[a][b] * wave[b];
        for (int a = 0; a < waves; a++) wave[a] *= eq->wave_inverse[a];
        for (int a = waves - 1; a >= 0; a--)
            for (int b = 0; b < a; b++) wave[b] -= eq->wave_factor[a][b] * wave[a];
        for (int i = 0; i <= last; i++) corner[i] -= dot(eq->coupling[i], wave, waves);
    }
    corner[last] *= eq->inverse[last];
    for (int i = last - 1; i >= 0; i--) corner[i] = corner[i] * eq->inverse[i] - eq->factor[i] * corner[i + 1];
}

/* From the values at the corners: the values at all nodes, slopes, changes, and the moments of the residuals. */
static void spread(const struct calendar *on, const struct series *of, const struct equations *eq, uint32_t active,
                   struct model *model) {
    double slope[MAX_NODES], before = 0;
    for (int i = 0; i < eq->corners - 1; i++) {
        double width = on->span[eq->corner[i]][eq->corner[i + 1]].inverse_width;
        slope[i] = (model->corner[i + 1] - model->corner[i]) * width;
        model->change[eq->corner[i]] = slope[i] - before;
        before = slope[i];
    }
    for (int s = 0, i = 0; s < on->segments; s++) { /* without branches, which nobody could predict */
        i += (active >> s) & 1;
        model->slope[s] = slope[i];
        model->value[s] = model->corner[i] + slope[i] * (on->at[s] - on->at[eq->corner[i]]);
    }
    model->value[on->segments] = model->corner[eq->corners - 1];
    for (int s = 0; s < on->segments; s++) {
        model->sum[s] = of->sum[s] - (model->value[s] * on->count[s] + model->slope[s] * on->first[s]);
        model->first[s] = of->first[s] - (model->value[s] * on->first[s] + model->slope[s] * on->second[s]);
    }
    if (on->waves) {
        for (int s = 0; s < on->segments; s++) {
            model->sum[s] -= dot(on->wave_sum[s], model->wave, on->waves);
            model->first[s] -= dot(on->wave_first[s], model->wave, on->waves);
        }
    }
}

static void solve(const struct calendar *on, const struct series *of, uint32_t active, struct signs signs, double v,
                  struct equations *eq, struct model *model) {
    set_up(on, of, active, signs, v, eq);
    factorize(on, v, eq);
    for (int i = 0; i < eq->corners; i++) model->corner[i] = eq->known[i] - v * eq->penalty[i];
    for (int a = 0; a < on->waves; a++) model->wave[a] = of->wave[a];
    substitute(eq, on->waves, model->corner, model->wave);
    spread(on, of, eq, active, model);
}

/* Keep of each run of neighbors that should all become nonzero only the one with the largest gradient: it usually
 * serves for all. */
static uint32_t keep_peaks(uint32_t nodes, const double *gradient) {
    uint32_t kept = 0;
    while (nodes) {
        int node = __builtin_ctz(nodes), peak = node;
        for (; nodes >> node & 1; node++) {
            nodes &= ~(1u << node);
            peak = magnitude(gradient[node]) > magnitude(gradient[peak]) ? node : peak;
        }
        kept |= 1u << peak;
    }
    return kept;
}

/* The nodes whose change has the other sign; in `enter`, those where it should not be zero. */
static uint32_t wrong_signs(const struct calendar *on, const struct model *model, struct signs signs, double v,
                            struct signs *enter) {
    double limit = v * on->lasso * (1 + MIN_OUTSIDE), total = 0, gradient[MAX_NODES];
    uint32_t outside = 0, rising = 0, leave = 0, active = signs.rises | signs.falls;
    double here = 0;
    for (int node = on->segments - 1; node > 0; node--) {
        gradient[node] = here += on->width[node] * total + model->first[node];
        total += model->sum[node];
        outside |= (uint32_t)(magnitude(here) > limit) << node;
        rising |= (uint32_t)(here > 0) << node;
    }
    for (uint32_t bits = active; bits; bits &= bits - 1) {
        int node = __builtin_ctz(bits);
        leave |= (uint32_t)(sign_at(signs, node) * model->change[node] < 0) << node;
    }
    outside &= ~active;
    *enter = (struct signs){keep_peaks(outside & rising, gradient), keep_peaks(outside & ~rising, gradient)};
    return leave;
}

/* Solve the lasso regression at a variance, from these signs. Return whether it is solved. */
static int regress(const struct calendar *on, const struct series *of, double v, struct signs *signs,
                   struct equations *eq, struct model *model) {
    int fewest = MAX_NODES, patience = FULL_EXCHANGES;
    for (int exchange = 0; exchange < MAX_EXCHANGES; exchange++) {
        struct signs enter;
        solve(on, of, signs->rises | signs->falls, *signs, v, eq, model);
        uint32_t leave = wrong_signs(on, model, *signs, v, &enter), wrong = leave | enter.rises | enter.falls;
        if (!wrong)
            return is_finite(dot(model->corner, model->corner, eq->corners & ~1) + model->corner[eq->corners - 1]);
        int amount = __builtin_popcount(wrong);
        patience = amount < fewest ? FULL_EXCHANGES : patience - 1;
        fewest = amount < fewest ? amount : fewest;
        if (patience < 0) wrong = 1u << (31 - __builtin_clz(wrong));
        signs->rises = (signs->rises & ~(leave & wrong)) | (enter.rises & wrong);
        signs->falls = (signs->falls & ~(leave & wrong)) | (enter.falls & wrong);
    }
    return 0;
}

/* The residual sum of squares: |z|² - f·(z + r) for the model's f and its residuals r. */
static double sum_squares(const struct calendar *on, const struct series *of, const struct model *model, double v) {
    double explained = 0;
    for (int s = 0; s < on->segments; s++)
        explained +=
            model->value[s] * (of->sum[s] + model->sum[s]) + model->slope[s] * (of->first[s] + model->first[s]);
    for (int a = 0; a < on->waves; a++) /* at the solution, what is left of the products is the prior's part */
        explained += model->wave[a] * (of->wave[a] + v * on->wave_ridge * model->wave[a]);
    return of->squares - explained;
}

/* The slopes of all priors at a model: of the penalty on the changes and of the normal priors. */
static void pull_of(const struct calendar *on, const struct equations *eq, const struct model *model, double *corner,
                    double *wave) {
    double slope = on->line_ridge * model->slope[0] * on->span[0][eq->corner[1]].inverse_width;
    for (int i = 0; i < eq->corners; i++) corner[i] = eq->penalty[i];
    corner[0] += on->line_ridge * model->corner[0] - slope;
    corner[1] += slope;
    for (int a = 0; a < on->waves; a++) wave[a] = on->wave_ridge * model->wave[a];
}

/* Half the second derivative of the residual sum of squares by the variance, while the signs are the same. */
static double bend(const struct calendar *on, const struct equations *eq, const struct model *model) {
    double corner[MAX_NODES], wave[MAX_WAVES], pull[MAX_NODES], wave_pull[MAX_WAVES], sum = 0;
    pull_of(on, eq, model, pull, wave_pull);
    for (int i = 0; i < eq->corners; i++) corner[i] = pull[i];
    for (int a = 0; a < on->waves; a++) wave[a] = wave_pull[a];
    substitute(eq, on->waves, corner, wave);
    for (int i = 0; i < eq->corners; i++) sum += pull[i] * corner[i];
    for (int a = 0; a < on->waves; a++) sum += wave_pull[a] * wave[a];
    return sum;
}

/* --- the two searches ----------------------------------------------------------------------------------------- */

/* The variance that minimizes n/2 log v + squares/(2v) + 2v. */
static double best_variance(double squares, double bars) {
    return 2 * squares / (bars + __builtin_sqrt(bars * bars + 16 * squares));
}

/* The v with T(v) = v if the sum of squares is squares + bend·(v² - variance²); NaN if there is none. */
static double end_of_piece(double squares, double bend, double variance, double bars) {
    double at_zero = squares - bend * (variance * variance), root = bars * bars + 4 * (4 - bend) * at_zero;
    return root >= 0 ? 2 * at_zero / (bars + __builtin_sqrt(root)) : (double)__builtin_nanf("");
}

/* Iterate v -> T(v) from `v` until it converges: from above or, with `upper`, from below. See _follow. */
static void follow(struct memory *at, double v, struct signs signs, const struct path *begin, struct path *path,
                   const struct search *upper, struct search *found) {
    const struct calendar *on = &at->calendar;
    const struct series *of = &at->series;
    int which = upper != 0, is_jump = 0, has_piece = 0;
    uint32_t known = begin ? begin->steps[which] : 0;
    double bars = (double)on->bars, plain = v;
    struct signs piece = {0, 0};
    path->steps[which] = 0;
    found->is_found = found->is_met = 0;
    for (int step = 0; step < MAX_STEPS && v > 0; step++) {
        if ((uint32_t)step < known && step < KEPT_STEPS) signs = begin->signs[which][step];
        if (!regress(on, of, v, &signs, &at->equations, &found->model)) return;
        if (step < KEPT_STEPS) {
            path->signs[which][step] = signs;
            path->steps[which] = (uint32_t)step + 1;
        }
        int is_same = has_piece && same(signs, piece), is_on = is_same || !is_jump;
        double squares = sum_squares(on, of, &found->model, v), next = best_variance(squares, bars);
        double end = end_of_piece(squares, bend(on, &at->equations, &found->model), v, bars);
        int is_ahead = (upper ? end >= v : end <= v) || is_near(end, v, APART);
        int is_last = is_near(next, v, CONVERGED) || (is_jump && is_same && is_near(end, v, CONVERGED));
        found->signs = signs;
        found->variance = v;
        found->squares = squares;
        if (upper && same(signs, upper->signs) && is_ahead && is_near(end, upper->variance, MEETS)) {
            found->is_found = found->is_met = 1;
            return;
        }
        if (is_on) {
            plain = next;
            piece = signs;
            has_piece = 1;
            if (is_last) {
                found->is_found = 1;
                return;
            }
        }
        is_jump = is_on && is_same && is_ahead && is_finite(end);
        v = is_jump ? end : plain;
    }
}

/* A variance below all stationary points: that of least squares with a very weak prior. */
static double lowest(struct memory *at, double variance) {
    const struct calendar *on = &at->calendar;
    uint32_t all = (1u << on->segments) - 2;
    double weak = 1e-3 * variance;
    solve(on, &at->series, all, (struct signs){0, 0}, weak, &at->equations, &at->model);
    double found = best_variance(larger(sum_squares(on, &at->series, &at->model, weak), 0), (double)on->bars);
    return found < variance ? found : variance;
}

/* The priors' part of what a search minimizes. */
static double prior(const struct calendar *on, const struct series *of, const struct model *model) {
    double offset = of->base + model->value[0], rate = of->rate + model->slope[0], changes = 0, waves = 0;
    for (int node = 1; node < on->segments; node++) changes += magnitude(model->change[node]);
    for (int a = 0; a < on->waves; a++) waves += model->wave[a] * model->wave[a];
    return on->lasso * changes + (on->line_ridge * (offset * offset + rate * rate) + on->wave_ridge * waves) / 2;
}

/* How much more one model loses than another. */
static double compare(const struct calendar *on, const struct series *of, const struct search *one,
                      const struct search *other) {
    double v = one->variance, w = other->variance;
    return (double)on->bars / 2 * logarithm(v / w) + one->squares / (2 * v) - other->squares / (2 * w) + 2 * (v - w) +
           prior(on, of, &one->model) - prior(on, of, &other->model);
}

/* Set the changes that are not free to zero; the search leaves what is in their place. */
static void clear_changes(const struct calendar *on, struct search *found) {
    for (int node = 1; node < on->segments; node++)
        if (!((found->signs.rises | found->signs.falls) >> node & 1)) found->model.change[node] = 0;
}

/* Find the mode. Return the better one of two; NULL if a search gave up. */
static const struct search *find_mode(struct memory *at, const struct path *begin, struct path *path,
                                      int *has_another) {
    const struct calendar *on = &at->calendar;
    const struct series *of = &at->series;
    struct search *upper = &at->upper, *lower = &at->lower;
    *has_another = 0;
    path->steps[0] = path->steps[1] = 0;
    follow(at, best_variance(of->plain_squares, (double)on->bars), (struct signs){0, 0}, begin, path, 0, upper);
    if (!upper->is_found) return 0;
    follow(at, lowest(at, upper->variance), upper->signs, begin, path, upper, lower);
    if (!lower->is_found) return 0;
    clear_changes(on, upper);
    if (lower->is_met) return upper;
    clear_changes(on, lower);
    *has_another = !is_near(upper->variance, lower->variance, APART);
    return *has_another && compare(on, of, lower, upper) < 0 ? lower : upper;
}

/* --- results -------------------------------------------------------------------------------------------------- */

/* Residuals of all bars, their moments and products with the Fourier terms. */
struct rest {
    double *bar; /* (bars,) */
    double sum[MAX_SEGMENTS], first[MAX_SEGMENTS], wave[MAX_WAVES], squares;
};

/* Subtract a line and Fourier terms from a series; `changes` holds the line's changes from index 1 on. */
static void subtract(const struct calendar *on, const struct series *of, double value, double slope,
                     const double *changes, const double *weights, struct rest *rest) {
    int waves = on->waves;
    rest->squares = 0;
    for (int s = 0; s < on->segments; s++) {
        int64_t begin = on->node_bars[s], end = end_of(on, s);
        double squares;
        slope += s ? changes[s] : 0;
        for (int64_t bar = begin; bar < end; bar++) rest->bar[bar] = of->y[bar] - (value + slope * on->local[bar]);
        if (waves)
            for (int64_t bar = begin; bar < end; bar++) rest->bar[bar] -= dot(on->wave + bar * waves, weights, waves);
        sum_segment(rest->bar + begin, on->local + begin, end - begin, &rest->sum[s], &rest->first[s], &squares);
        rest->squares += squares;
        value += slope * on->width[s];
    }
    sum_products(on, rest->bar, rest->wave);
}

/* What a parameter misses of its optimality condition, in units of its prior's scale. */
static double missed_by_normal(double pull, double ridge, double parameter) {
    return magnitude(pull - ridge * parameter) / __builtin_sqrt(ridge);
}

static double missed_by_change(double pull, double lasso, double change) {
    double sign = change > 0 ? 1 : change < 0 ? -1 : 0, missed = magnitude(pull / lasso - sign);
    return change != 0 ? missed : larger(missed - 1, 0);
}

/* The distance from a stationary point as in optimality() of model.py, from the bars. */
static double residual(const struct calendar *on, const struct series *of, const double *parameters, double v,
                       struct rest *rest) {
    const double *changes = parameters + 1, *weights = parameters + on->nodes;
    double gradient = 0, total = 0, worst = 0;
    subtract(on, of, parameters[1], parameters[0], changes, weights, rest);
    for (int node = on->segments - 1; node >= 0; node--) {
        gradient += on->width[node] * total + rest->first[node];
        total += rest->sum[node];
        if (node) worst = larger(worst, missed_by_change(gradient / v, on->lasso, changes[node]));
    }
    worst = larger(worst, missed_by_normal(gradient / v, on->line_ridge, parameters[0]));
    worst = larger(worst, missed_by_normal(total / v, on->line_ridge, parameters[1]));
    for (int a = 0; a < on->waves; a++)
        worst = larger(worst, missed_by_normal(rest->wave[a] / v, on->wave_ridge, weights[a]));
    double of_noise = magnitude((double)on->bars - rest->squares / v + 4 * v),
           check = rest->squares / v + gradient + total;
    return is_finite(check) ? larger(worst, of_noise) : check - check; /* NaN */
}

/* Divide a series by its largest magnitude; return why it cannot be fitted, or FOUND. */
static enum status scale(const double *values, int64_t bars, double *y, double *most) {
    double low = values[0], high = values[0], sound = 0;
    for (int64_t bar = 0; bar < bars; bar++) {
        double value = values[bar];
        low = value < low ? value : low;
        high = value > high ? value : high;
        sound += value - value; /* NaN if the value is not finite */
    }
    *most = larger(magnitude(low), magnitude(high));
    if (sound != 0) return NOT_FINITE;
    if (!(high - low > ROUNDING * *most)) return STILL;
    for (int64_t bar = 0; bar < bars; bar++) y[bar] = values[bar] / *most;
    return FOUND;
}

/* Write the parameters and the line of a mode. */
static void write(const struct memory *at, const struct search *found, double most, double *parameters, double *line) {
    const struct calendar *on = &at->calendar;
    const struct series *of = &at->series;
    const struct model *model = &found->model;
    parameters[0] = of->rate + model->slope[0];
    parameters[1] = of->base + model->value[0];
    for (int node = 1; node < on->segments; node++) parameters[node + 1] = model->change[node];
    for (int a = 0; a < on->waves; a++) parameters[on->nodes + a] = model->wave[a];
    for (int node = 0; node < on->nodes; node++)
        line[node] = (of->base + of->rate * on->at[node] + model->value[node]) * most;
}

static double mean_season(const struct calendar *on, const double *weights) {
    double sum = 0;
    for (int s = 0; s < on->segments; s++) sum += on->waves ? dot(on->wave_sum[s], weights, on->waves) : 0;
    return sum / (double)on->bars;
}

static void fit_row(struct memory *at, const struct job *job, int64_t row, struct rest *rest) {
    const struct calendar *on = &at->calendar;
    double *parameters = job->parameters + row * (job->nodes + job->waves), *numbers = job->numbers + 4 * row;
    int64_t *status = job->status + 2 * row;
    struct path *path = job->path + row;
    int has_another = 0;
    path->steps[0] = path->steps[1] = 0;
    status[1] = 0;
    status[0] = scale(job->values + row * on->bars, on->bars, at->series.y, &numbers[1]);
    if (status[0] != FOUND) return;
    sum_series(on, &at->series, rest->bar);
    const struct path *begin = job->begin && job->begin[row].steps[0] ? job->begin + row : 0;
    const struct search *found = find_mode(at, begin, path, &has_another);
    if (begin && !(found && found->variance >= MIN_NOISE * MIN_NOISE)) found = find_mode(at, 0, path, &has_another);
    status[0] = found ? FOUND : NOT_FOUND;
    status[1] = has_another;
    if (!found) return;
    write(at, found, numbers[1], parameters, job->line + row * on->nodes);
    numbers[0] = __builtin_sqrt(found->variance);
    numbers[2] = residual(on, &at->series, parameters, found->variance, rest);
    numbers[3] = mean_season(on, parameters + on->nodes) * numbers[1];
}

/* --- what is called from Python ------------------------------------------------------------------------------- */

EXPORT int64_t kernel_interface(void) { return INTERFACE; }

EXPORT int64_t kernel_memory_bytes(int64_t bars, int64_t waves) {
    return (int64_t)sizeof(struct memory) + bars * (4 + waves) * (int64_t)sizeof(double);
}

EXPORT void kernel_waves(const int64_t *times_ns, int64_t bars, const struct season *season, int64_t seasons,
                         double *wave) {
    fill_waves(times_ns, bars, season, seasons, wave);
}

EXPORT void kernel_fit(const struct job *job) {
    struct memory *at = job->memory;
    struct calendar *on = &at->calendar;
    double *room = (double *)(at + 1);
    on->bars = job->bars;
    on->nodes = (int)job->nodes;
    on->segments = on->nodes - 1;
    on->waves = (int)job->waves;
    on->node_bars = job->node_bars;
    on->line_ridge = job->line_ridge;
    on->wave_ridge = job->wave_ridge;
    on->lasso = job->lasso;
    on->time = room;
    on->local = room + job->bars;
    at->series.y = room + 2 * job->bars;
    on->wave = room + 4 * job->bars;
    fill_waves(job->times_ns, job->bars, job->season, job->seasons, on->wave);
    sum_calendar(on, job->times_ns);
    struct rest rest;
    rest.bar = room + 3 * job->bars;
    for (int64_t row = 0; row < job->rows; row++) fit_row(at, job, row, &rest);
}
