// SPDX-License-Identifier: Apache-2.0
/* The routing record: both orders, counts, replicas of the flags. */
#include "routing_helper.h"

static void sort_work(sgm_worker *worker, void *record) {
    sgm_routing_sort(worker, record);
}

/* Three items, two slots, four experts, by hand. */
static void by_hand(void **state) {
    (void)state;
    sgm_routing r = record_new(3, 4, 2);
    const int32_t expert[] = {2, 0, 2, -1, 0, 3};
    const uint8_t flags[] = {0, 0, 0, 0, SGM_ROUTE_DROPPED, SGM_ROUTE_NULL};
    memcpy(r.expert, expert, sizeof expert);
    memcpy(r.flags, flags, sizeof flags);
    on_team(1, sort_work, &r);
    const int64_t offset[] = {0, 1, 1, 3, 3};
    assert_memory_equal(r.offset, offset, sizeof offset);
    assert_int_equal(r.assignments, 3);
    const int32_t item[] = {0, 0, 1}, slot[] = {1, 0, 0}, physical[] = {0, 2, 2};
    assert_memory_equal(r.item, item, sizeof item);
    assert_memory_equal(r.slot, slot, sizeof slot);
    assert_memory_equal(r.physical, physical, sizeof physical);
    const int32_t position[] = {1, 0, 2, -1, -1, -1};
    assert_memory_equal(r.position, position, sizeof position);
    int64_t counts[4];
    const int64_t expected[] = {2, 0, 2, 1}; /* null and dropped ones were chosen too */
    sgm_routing_counts(&r, counts);
    assert_memory_equal(counts, expected, sizeof counts);
    record_free(&r);
}

/* Many items, any number of threads: a permutation, sorted, stable, inverse of `position`. */
static void any_threads(void **state) {
    (void)state;
    enum { T = 1000, E = 37, K = 3 };
    for (int threads = 1; threads <= 4; threads++) {
        sgm_routing r = record_new(T, E, K);
        int64_t computed = 0;
        sgm_rng rng = sgm_rng_at(3, 1, 0);
        for (int64_t i = 0; i < T * K; i++) {
            uint64_t draw = sgm_rng_below(&rng, E + 2);
            r.expert[i] = draw < E ? (int32_t)draw : -1;
            r.flags[i] = draw % 11 == 3 ? SGM_ROUTE_NULL : 0;
            computed += r.expert[i] >= 0 && !r.flags[i];
        }
        on_team(threads, sort_work, &r);
        assert_int_equal(r.assignments, computed);
        assert_int_equal(r.offset[0], 0);
        assert_int_equal(r.offset[E], computed);
        for (int64_t e = 0; e < E; e++)
            for (int64_t row = r.offset[e]; row < r.offset[e + 1]; row++) {
                int64_t place = r.item[row] * K + r.slot[row];
                assert_int_equal(r.expert[place], e);
                assert_int_equal(r.position[place], row);
                assert_int_equal(r.physical[row], e);
                if (row > r.offset[e])
                    assert_true(place > r.item[row - 1] * K + r.slot[row - 1]);
            }
        for (int64_t i = 0; i < T * K; i++)
            assert_int_equal(r.position[i] >= 0, r.expert[i] >= 0 && !r.flags[i]);
        record_free(&r);
    }
}

static void nobody(void **state) {
    (void)state;
    sgm_routing r = record_new(0, 5, 1);
    on_team(2, sort_work, &r);
    assert_int_equal(r.assignments, 0);
    assert_int_equal(r.offset[5], 0);
    record_free(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_hand),
        cmocka_unit_test(any_threads),
        cmocka_unit_test(nobody),
    };
    return cmocka_run_group_tests_name("routing", tests, NULL, NULL);
}
