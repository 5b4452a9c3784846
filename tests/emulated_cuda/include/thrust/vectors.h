// thrust::host_vector and thrust::device_vector, with the pointers and references that reach into device memory.
#pragma once
#include <utility>
#include <vector>

#include "../cuda_runtime.h"

namespace thrust {

template <class T>
class device_reference;

template <class T>
class device_ptr {
    T* p;

public:
    explicit device_ptr(T* p = nullptr) : p(p) {}
    T* get() const { return p; }
    device_reference<T> operator*() const { return device_reference<T>(p); }
    device_reference<T> operator[](size_t k) const { return device_reference<T>(p + k); }
    device_ptr operator+(ptrdiff_t k) const { return device_ptr(p + k); }
};

template <class T>
T* raw_pointer_cast(device_ptr<T> pointer) {
    return pointer.get();
}
template <class T>
T* raw_pointer_cast(T* pointer) {
    return pointer;
}

// An element seen from the host: every read and every write is a copy of its own.
template <class T>
class device_reference {
    T* p;

public:
    explicit device_reference(T* p) : p(p) {}
    device_ptr<T> operator&() const { return device_ptr<T>(p); }
    operator T() const {
        T value;
        cudaMemcpy(&value, p, sizeof(T), cudaMemcpyDeviceToHost, "thrust::device_reference");
        return value;
    }
    device_reference& operator=(const T& value) {
        cudaMemcpy(p, &value, sizeof(T), cudaMemcpyHostToDevice, "thrust::device_reference");
        return *this;
    }
    device_reference& operator=(const device_reference& other) { return *this = T(other); }
};

template <class T>
class device_vector;

template <class T>
class host_vector : public std::vector<T> {
public:
    using std::vector<T>::vector;
    host_vector() = default;
    host_vector(const device_vector<T>& other) { *this = other; }
    host_vector& operator=(const device_vector<T>& other) {
        this->resize(other.size());
        cudaMemcpy(this->data(), other.raw(), sizeof(T) * other.size(), cudaMemcpyDeviceToHost);
        return *this;
    }
};

template <class T>
class device_vector {
    static_assert(std::is_trivially_copyable_v<T>);
    T* first = nullptr;
    size_t used = 0, room = 0;

    void move_to(size_t wanted, const char* caller) {
        T* fresh = nullptr;
        if (wanted && cudaMalloc((void**)&fresh, sizeof(T) * wanted) != cudaSuccess) throw std::bad_alloc();
        if (used) cudaMemcpy(fresh, first, sizeof(T) * used, cudaMemcpyDeviceToDevice, caller);
        cudaFree(first);
        first = fresh;
        room = wanted;
    }

public:
    device_vector() = default;
    explicit device_vector(size_t size) { resize(size); }
    device_vector(const host_vector<T>& other) { *this = other; }
    device_vector(const device_vector& other) { *this = host_vector<T>(other); }
    ~device_vector() { cudaFree(first); }
    device_vector& operator=(const host_vector<T>& other) {
        used = 0;
        if (other.size() > room) move_to(other.size(), __func__);
        used = other.size();
        cudaMemcpy(first, other.data(), sizeof(T) * used, cudaMemcpyHostToDevice);
        return *this;
    }
    device_vector& operator=(const device_vector& other) { return *this = host_vector<T>(other); }

    // New elements are zero, by a kernel of thrust's own that it waits for.
    void resize(size_t size, const char* caller = __builtin_FUNCTION()) {
        if (size > room) move_to(size > 2 * room ? size : 2 * room, caller);
        if (size > used) {
            cudaMemset(first + used, 0, sizeof(T) * (size - used), caller);
            emulated::count_launch("thrust::uninitialized_fill");
        }
        used = size;
    }
    void push_back(const T& value) {
        resize(used + 1);
        (*this)[used - 1] = value;
    }
    void clear() { used = 0; }
    void shrink_to_fit() { move_to(used, __func__); }
    void swap(device_vector& other) {
        std::swap(first, other.first);
        std::swap(used, other.used);
        std::swap(room, other.room);
    }
    size_t size() const { return used; }
    bool empty() const { return !used; }
    const T* raw() const { return first; }
    device_reference<T> operator[](size_t k) { return device_reference<T>(first + k); }
    device_ptr<T> data() { return device_ptr<T>(first); }
};

}  // namespace thrust
