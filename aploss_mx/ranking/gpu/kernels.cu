// AP-loss and AUC-loss with their gradients on a GPU: the method of exact.py, in two passes over the scores around a sort
// and some scans of the positives. launches.py launches the kernels in the order in which they stand here.
//
// All runs give the same bits: what threads add up in no order are integers (counts, and heights in fixed point), and
// what they add up in floating point has an order. Scores are compared as float32, everything else is float64.
//
// A score has a place, row * classes + column; a row is an anchor, whose class target t makes column t - 1 positive and
// the other columns negative (0: all negative, -1: ignored).

#ifdef __CUDACC_RTC__  // which knows no headers
typedef long long int64_t;
#endif

#define KERNEL extern "C" __global__ void

enum { POSITIVES, IGNORED_ROWS, INVALID_TARGETS, NOT_FINITE };  // places in `counters`
enum { AP, INTERPOLATED_AP, AUC };                              // values of `method`

const int THREADS = 256;             // of a block
const unsigned WHOLE_WARP = ~0u;
const float LARGEST = 3.402823466e+38f;  // of the finite numbers
const int SHARED_BINS = 2048;        // as many as a block can count in its shared memory, 32 KiB
const int SHARED_THRESHOLDS = 4096;  // as many as it can search there, in the same

__device__ int first_index() { return blockIdx.x * blockDim.x + threadIdx.x; }

__device__ int index_step() { return gridDim.x * blockDim.x; }

// Two's complement: CUDA's addition without a sign is the one with a sign.
__device__ void add(int64_t *sum, int64_t number) { atomicAdd((unsigned long long *)sum, (unsigned long long)number); }

__device__ void add(int *sum, int number) { atomicAdd(sum, number); }

// ---- the positives, in ascending order ----

KERNEL find_positives(const float *logits, const float *class_targets, int rows, int classes, int *counters, int *places,
                      float *scores) {
    int ignored = 0;
    for (int row = first_index(); row < rows; row += index_step()) {
        const float target = class_targets[row];
        if (!(target >= -1 && target <= classes && target == floorf(target))) {
            atomicAdd(&counters[INVALID_TARGETS], 1);
        } else if (target < 0) {
            ++ignored;
        } else if (target > 0) {
            const int slot = atomicAdd(&counters[POSITIVES], 1);
            places[slot] = row * classes + (int)target - 1;
            scores[slot] = logits[places[slot]];
        }
    }
    if (ignored) atomicAdd(&counters[IGNORED_ROWS], ignored);
}

// Places are unique, so that the order does not depend on which thread found a positive first.
__device__ bool precedes(float score, int place, float other_score, int other_place) {
    return score < other_score || (score == other_score && place < other_place);
}

// Sort runs of THREADS positives, a block each.
KERNEL sort_runs(int count, const int *places, const float *scores, int *sorted_places, float *sorted_scores) {
    __shared__ int run_places[THREADS];
    __shared__ float run_scores[THREADS];
    const int start = blockIdx.x * THREADS, size = min(THREADS, count - start), own = threadIdx.x;
    if (own < size) {
        run_places[own] = places[start + own];
        run_scores[own] = scores[start + own];
    }
    __syncthreads();
    if (own >= size) return;
    int rank = 0;
    for (int other = 0; other < size; ++other)
        rank += precedes(run_scores[other], run_places[other], run_scores[own], run_places[own]);
    sorted_places[start + rank] = run_places[own];
    sorted_scores[start + rank] = run_scores[own];
}

// Merge each two neighbouring sorted runs of `width` positives.
KERNEL merge_runs(int count, int width, const int *places, const float *scores, int *merged_places,
                  float *merged_scores) {
    const int index = first_index();
    if (index >= count) return;
    const int run = index / width;
    const int other = min(count, (run ^ 1) * width), other_end = min(count, other + width);
    int low = other, high = other_end;
    while (low < high) {
        const int middle = (low + high) / 2;
        if (precedes(scores[middle], places[middle], scores[index], places[index]))
            low = middle + 1;
        else
            high = middle;
    }
    const int merged = (run & ~1) * width + (index - run * width) + (low - other);
    merged_places[merged] = places[index];
    merged_scores[merged] = scores[index];
}

// ---- the breakpoints, where ramps begin and end: see breakpoints.py ----

__device__ double half_width(double score, double delta) {
    const double size = fabs(score), spacing = nextafter(size, 1e300) - size;
    return delta < 1048576.0 * spacing ? (size + fmax(delta, spacing)) - size : delta;
}

__device__ double lower_end(double score, double delta) { return score - half_width(score, delta); }

__device__ double upper_end(double score, double delta) { return score + half_width(score, delta); }

// The ends of one kind are in order as the scores are, so that an end's place is found among those of the other kind.
KERNEL place_breakpoints(int count, double delta, const float *scores, int *lower, int *upper, double *values,
                         float *thresholds) {
    const int index = first_index();
    if (index >= count) return;
    const double begin = lower_end(scores[index], delta), end = upper_end(scores[index], delta);
    int low = 0, high = count;
    while (low < high) {
        const int middle = (low + high) / 2;
        if (upper_end(scores[middle], delta) < begin)
            low = middle + 1;
        else
            high = middle;
    }
    lower[index] = index + low;
    low = 0, high = count;
    while (low < high) {
        const int middle = (low + high) / 2;
        if (lower_end(scores[middle], delta) <= end)
            low = middle + 1;
        else
            high = middle;
    }
    upper[index] = index + low;
    values[lower[index]] = begin;
    values[upper[index]] = end;
    // A float32 score reaches a breakpoint where it reaches the next float32 above it.
    thresholds[lower[index]] = __double2float_ru(begin);
    thresholds[upper[index]] = __double2float_ru(end);
}

struct Sum {
    __device__ double operator()(double one, double other) const { return one + other; }
};

struct Minimum {
    __device__ double operator()(double one, double other) const { return fmin(one, other); }
};

// Call store(i, load(0) ∘ … ∘ load(i)) for i = 0 … size - 1, in one block of THREADS threads.
template <class Operation, class Load, class Store>
__device__ void scan(int size, double neutral, Operation combine, Load load, Store store) {
    __shared__ double totals[THREADS];
    const int share = (size + THREADS - 1) / THREADS, own = threadIdx.x;
    const int begin = min(size, own * share), end = min(size, begin + share);
    double total = neutral;
    for (int i = begin; i < end; ++i) total = combine(total, load(i));
    totals[own] = total;
    __syncthreads();
    for (int reach = 1; reach < THREADS; reach *= 2) {
        const double before = own < reach ? neutral : totals[own - reach];
        __syncthreads();
        totals[own] = combine(before, totals[own]);
        __syncthreads();
    }
    total = own ? totals[own - 1] : neutral;
    for (int i = begin; i < end; ++i) {
        total = combine(total, load(i));
        store(i, total);
    }
    __syncthreads();
}

// No ramp crosses a gap wider than 2 delta: such gaps are squeezed, or far outliers would drown the sums. One block.
KERNEL measure_gaps(int count, double delta, const double *values, const int *lower, const int *upper, double *gaps,
                    double *squeeze, double *positions, double *ramps) {
    const int bins = 2 * count;
    for (int bin = threadIdx.x; bin < bins; bin += THREADS) {
        const double width = bin + 1 < bins ? values[bin + 1] - values[bin] : 0;
        gaps[bin] = fmin(width, 2 * delta);
        squeeze[bin] = width > 0 ? gaps[bin] / width : 0;
    }
    __syncthreads();
    // The position of a breakpoint: the sum of the gaps below it.
    scan(bins, 0.0, Sum(), [&](int bin) { return bin ? gaps[bin - 1] : 0.0; },
         [&](int bin, double position) { positions[bin] = position; });
    for (int index = threadIdx.x; index < count; index += THREADS)
        ramps[index] = positions[upper[index]] - positions[lower[index]];
}

// ---- the first pass: count the negatives and sum up their heights, bin by bin ----

__device__ int bin_of(float score, int bins, const float *thresholds) {
    int low = 0, high = bins - 1;
    while (low < high) {
        const int middle = (low + high + 1) / 2;
        if (thresholds[middle] <= score)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

__device__ double height_of(float score, int bin, const double *values, const double *squeeze) {
    return (score - values[bin]) * squeeze[bin];
}

// Copy thresholds into a block's shared memory, and return where to search them.
__device__ const float *stage(int bins, const float *thresholds, float *block_thresholds) {
    if (bins > SHARED_THRESHOLDS) return thresholds;
    for (int bin = threadIdx.x; bin < bins; bin += blockDim.x) block_thresholds[bin] = thresholds[bin];
    __syncthreads();
    return block_thresholds;
}

// The bin of a thread's last score, which its next is likely to be in as well.
struct Bin {
    int index;
    float begin, end;
    double value, squeeze;

    __device__ Bin() : index(-1), begin(1), end(0), value(0), squeeze(0) {}  // holds no score
    __device__ bool holds(float score) const { return score >= begin && score < end; }
    __device__ void move_to(float score, int bins, const double *values, const float *thresholds,
                            const double *squeezes) {
        index = bin_of(score, bins, thresholds);
        begin = thresholds[index];
        end = index + 1 < bins ? thresholds[index + 1] : LARGEST;
        value = values[index];
        squeeze = squeezes[index];
    }
    __device__ double height(float score) const { return (score - value) * squeeze; }
};

// Four neighbouring scores; `size` counts all scores.
__device__ float4 load_four(const float *scores, int first, int size) {
    if (first + 4 <= size && ((unsigned long long)(scores + first) & 15) == 0) return *(const float4 *)(scores + first);
    float4 four = {0, 0, 0, 0};
    four.x = scores[first];
    if (first + 1 < size) four.y = scores[first + 1];
    if (first + 2 < size) four.z = scores[first + 2];
    if (first + 3 < size) four.w = scores[first + 3];
    return four;
}

enum Kind { POSITIVE, NEGATIVE, IGNORED };

// Call visit(lane, place, score, kind) for a thread's four scores, of those that there are.
template <class Visit>
__device__ void visit_four(const float *logits, const float *class_targets, int first, int size, int classes,
                           Visit visit) {
    const float4 four = load_four(logits, first, size);
    const float scores[4] = {four.x, four.y, four.z, four.w};
    int row = first / classes, column = first - row * classes;
    for (int lane = 0; lane < 4 && first + lane < size; ++lane) {
        const float target = class_targets[row];
        visit(lane, scores[lane], target < 0 ? IGNORED : target == column + 1 ? POSITIVE : NEGATIVE);
        if (++column == classes) ++row, column = 0;
    }
}

// What a thread has counted of one bin and not yet added to the sums of all.
struct Batch {
    int count;
    int64_t sum;
};

template <class Count>
__device__ void add_to_bin(int bin, Batch batch, Count *counts, int64_t *sums) {
    add(&counts[bin], batch.count);
    add(&sums[bin], batch.sum);
}

// The same from all threads of a warp at once: those of the first's bin add up first, or they would queue for one address.
template <class Count>
__device__ void add_to_bins(int bin, Batch batch, Count *counts, int64_t *sums) {
    const unsigned with_any = __ballot_sync(WHOLE_WARP, batch.count > 0);
    if (!with_any) return;
    const int first = __ffs(with_any) - 1, common = __shfl_sync(WHOLE_WARP, bin, first);
    Batch total = {0, 0};
    if (batch.count && bin == common)
        total = batch;
    else if (batch.count)
        add_to_bin(bin, batch, counts, sums);
    for (int distance = 16; distance; distance /= 2) {
        total.count += __shfl_xor_sync(WHOLE_WARP, total.count, distance);
        total.sum += __shfl_xor_sync(WHOLE_WARP, total.sum, distance);
    }
    if (threadIdx.x % 32 == first) add_to_bin(common, total, counts, sums);
}

KERNEL bin_scores(const float *logits, const float *class_targets, int size, int classes, int bins,
                  const double *values, const float *thresholds, const double *squeeze, double scale, int64_t *counts,
                  int64_t *sums, int *counters) {
    // Sums, counts and thresholds of up to SHARED_BINS bins, or thresholds of up to SHARED_THRESHOLDS.
    __shared__ int64_t block_memory[2 * SHARED_BINS];
    int64_t *block_sums = block_memory;
    int *block_counts = (int *)(block_memory + SHARED_BINS);
    const bool shared = bins <= SHARED_BINS;
    if (shared) {
        for (int bin = threadIdx.x; bin < bins; bin += blockDim.x) {
            block_counts[bin] = 0;
            block_sums[bin] = 0;
        }
    }
    thresholds = stage(bins, thresholds, shared ? (float *)(block_counts + SHARED_BINS) : (float *)block_memory);
    const float lowest = bins ? thresholds[0] : 0;
    bool finite = true;
    Bin bin;
    Batch batch = {0, 0};
    for (int first = 4 * first_index(); first < size; first += 4 * index_step()) {
        visit_four(logits, class_targets, first, size, classes, [&](int, float score, Kind kind) {
            if (kind == IGNORED) return;
            if (!(fabsf(score) <= LARGEST)) {
                finite = false;
                return;
            }
            if (kind == POSITIVE || bins == 0 || score < lowest) return;
            if (!bin.holds(score)) {
                if (batch.count && shared) add_to_bin(bin.index, batch, block_counts, block_sums);
                if (batch.count && !shared) add_to_bin(bin.index, batch, counts, sums);
                batch.count = 0;
                batch.sum = 0;
                bin.move_to(score, bins, values, thresholds, squeeze);
            }
            ++batch.count;
            batch.sum += (int64_t)rint(scale * bin.height(score));
        });
    }
    if (!finite) counters[NOT_FINITE] = 1;
    if (shared)
        add_to_bins(bin.index, batch, block_counts, block_sums);
    else
        add_to_bins(bin.index, batch, counts, sums);
    __syncthreads();
    if (!shared) return;
    for (int each = threadIdx.x; each < bins; each += blockDim.x) {
        if (block_counts[each]) add_to_bin(each, {block_counts[each], block_sums[each]}, counts, sums);
    }
}

// ---- the errors of the positives, and the pull on the negatives of each bin; one block ----

// soft[i] = sum of f(s - s_i) over the scores s that counts and sums are of. `beyond` and `hinge` are for use inside.
__device__ void soft_counts(int count, const int64_t *counts, const int64_t *sums, double scale, const double *gaps,
                            const double *ramps, const int *lower, const int *upper, double *beyond, double *hinge,
                            double *soft) {
    const int last = 2 * count - 1;
    scan(last + 1, 0.0, Sum(), [&](int i) { return (double)counts[last - i]; },
         [&](int i, double number) { beyond[last - i] = number; });
    scan(last + 1, 0.0, Sum(),
         [&](int i) {
             const int bin = last - i;
             return sums[bin] / scale + (bin < last ? beyond[bin + 1] * gaps[bin] : 0.0);
         },
         [&](int i, double total) { hinge[last - i] = total; });
    for (int index = threadIdx.x; index < count; index += THREADS)
        soft[index] = (hinge[lower[index]] - hinge[upper[index]]) / ramps[index];
    __syncthreads();
}

KERNEL solve(int count, int method, double weight, int rows, int classes, const float *scores, const double *values,
             const float *thresholds, const double *squeeze, const double *gaps, const double *ramps, const int *lower,
             const int *upper, double scale, const int64_t *counts, const int64_t *sums, int64_t *own_counts,
             int64_t *own_sums, const int *counters, double *beyond, double *hinge, double *ranks, double *errors,
             double *slopes, double *pulls, float *loss) {
    const int bins = 2 * count, own = threadIdx.x;
    if (counters[NOT_FINITE] || count == 0) {
        if (own == 0 && counters[NOT_FINITE]) *loss = nanf("");
        return;
    }
    for (int index = own; index < count; index += THREADS) {
        const int bin = bin_of(scores[index], bins, thresholds);
        add(&own_counts[bin], 1);
        add(&own_sums[bin], (int64_t)rint(scale * height_of(scores[index], bin, values, squeeze)));
    }
    __syncthreads();
    soft_counts(count, own_counts, own_sums, scale, gaps, ramps, lower, upper, beyond, hinge, ranks);
    soft_counts(count, counts, sums, scale, gaps, ramps, lower, upper, beyond, hinge, slopes);  // for now: those above
    const double negatives = (double)(rows - counters[IGNORED_ROWS]) * classes - count;
    for (int index = own; index < count; index += THREADS) {
        // f(0) = 0.5 of a positive itself gives way to the 1 of its own rank.
        const double above = slopes[index], rank = ranks[index] + 0.5 + above;
        errors[index] = method == AUC ? above / fmax(1.0, negatives) : above / rank;
        ranks[index] = above;
    }
    __syncthreads();
    if (method == INTERPOLATED_AP)
        scan(count, 1.0, Minimum(), [&](int i) { return errors[i]; }, [&](int i, double least) { errors[i] = least; });
    for (int index = own; index < count; index += THREADS) {
        const double above = ranks[index], pull = above > 0 ? errors[index] / above / count : 0.0;
        slopes[lower[index]] = pull / ramps[index];
        slopes[upper[index]] = -pull / ramps[index];
    }
    __syncthreads();
    scan(bins, 0.0, Sum(), [&](int bin) { return slopes[bin]; }, [&](int bin, double slope) { slopes[bin] = slope; });
    scan(bins, 0.0, Sum(), [&](int bin) { return bin ? slopes[bin - 1] * gaps[bin - 1] : 0.0; },
         [&](int bin, double pull) { pulls[bin] = pull; });
    scan(count, 0.0, Sum(), [&](int i) { return errors[i]; },
         [&](int i, double sum) {
             if (i == count - 1) *loss += (float)(weight * sum / count);
         });
}

// ---- the second pass: the gradient ----

KERNEL write_gradient(const float *logits, const float *class_targets, int size, int classes, int bins, double weight,
                      const double *values, const float *thresholds, const double *squeeze, const double *slopes,
                      const double *pulls, const int *counters, float *gradient) {
    __shared__ float block_thresholds[SHARED_THRESHOLDS];
    thresholds = stage(bins, thresholds, block_thresholds);
    const float lowest = bins ? thresholds[0] : 0;
    const bool finite = !counters[NOT_FINITE];
    Bin bin;
    double slope = 0, pull = 0;
    for (int first = 4 * first_index(); first < size; first += 4 * index_step()) {
        float four[4] = {0, 0, 0, 0};
        visit_four(logits, class_targets, first, size, classes, [&](int lane, float score, Kind kind) {
            if (kind == IGNORED) return;
            if (!finite) {
                four[lane] = nanf("");
            } else if (kind == NEGATIVE && bins && score >= lowest) {
                if (!bin.holds(score)) {
                    bin.move_to(score, bins, values, thresholds, squeeze);
                    slope = slopes[bin.index];
                    pull = pulls[bin.index];
                }
                four[lane] = (float)(weight * (pull + slope * bin.height(score)));
            }
        });
        if (first + 4 <= size && ((unsigned long long)(gradient + first) & 15) == 0) {
            *(float4 *)(gradient + first) = make_float4(four[0], four[1], four[2], four[3]);
        } else {
            for (int lane = 0; lane < 4 && first + lane < size; ++lane) gradient[first + lane] = four[lane];
        }
    }
}

KERNEL write_positives(int count, double weight, const int *places, const double *errors, const int *counters,
                       float *gradient) {
    const int index = first_index();
    if (index < count && !counters[NOT_FINITE]) gradient[places[index]] = (float)(-weight * errors[index] / count);
}
